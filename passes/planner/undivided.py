"""Mesh axes that a step cannot use as they are meant to be used, because of sizes: what no rule can put right.

A batch whose leading axis a mesh axis does not divide is computed in full by all of its devices, whatever the plan; a
state none of whose names it divides is stored in full by all of them.
"""

from collections.abc import Iterator

from ir.graph import Graph
from passes.planner import errors
from passes.planner.space import scanned_names
from passes.sharding.mesh import DeviceMesh
from passes.sharding.rules import sizes_of


def batch_axes(graph: Graph) -> dict[str, int]:
    """The leading axes of what comes in besides the state, with their sizes; none of a step that keeps no state."""
    carried = {before for before, _ in graph.carried}
    batch = [value.type.dims[0] for i, value in enumerate(graph.inputs) if i not in carried and value.type.dims]
    return {dim.name: dim.size for dim in batch if dim.name is not None} if carried else {}


def undivided_batch(graph: Graph, mesh: DeviceMesh) -> Iterator[str]:
    """Of each mesh axis that does not divide the batch, what would; nothing of a step that keeps no state."""
    for name, size in batch_axes(graph).items():
        for axis, devices in mesh.as_dict().items():
            if size % devices:
                yield errors.batch_undivided(name, size, axis, devices, _largest(size, devices))


def undivided_state(graph: Graph, mesh: DeviceMesh) -> Iterator[str]:
    """Of each mesh axis that divides no name of the state, which size would divide the most."""
    scanned = scanned_names(graph)
    types = [graph.inputs[before].type for before, _ in graph.carried]
    sizes = {name: size for type_ in types for name, size in sizes_of(type_).items() if name not in scanned}
    for axis, devices in mesh.as_dict().items():
        if sizes and all(size % devices for size in sizes.values()):
            better = max(_largest(size, devices) for size in sizes.values())
            fitting = [name for name, size in sizes.items() if size % better == 0]
            yield errors.state_undivided(sizes, axis, devices, better, fitting)


def _largest(size: int, most: int) -> int:
    """The largest number of devices, at most `most`, that divides a size."""
    return next(each for each in range(min(size, most), 0, -1) if size % each == 0)
