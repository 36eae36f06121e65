"""What axes may be padded to, so that a mesh divides them.

An axis that some of the mesh does not divide may be padded to the next size that it does (`passes.pad_axes`). Each
padding makes another graph, whose best plan is found with proof (`passes.planner.variants`), where that is asked for:
`padding=vocab` for the best size of that axis, its own among them, and of several for all sizes of each; `padding=any`
for the best of padding nothing and of padding one axis.
"""

from collections.abc import Mapping
from itertools import product

from ir.graph import Graph
from ir.names import is_part
from passes.planner import errors
from passes.planner.constraints import ANY, Constraints
from passes.planner.space import scanned_names
from passes.sharding.mesh import DeviceMesh


def paddings(graph: Graph, layout: DeviceMesh, given: Constraints) -> list[dict[str, int]]:
    """What is searched: sizes of the names that may be padded, those first that leave most names as they are. A name
    that is pinned to mesh axes has sizes that these divide.

    Raises:
        PlanError: the graph has no such name, or the whole mesh divides its size.
    """
    sizes, scanned, names = graph.axis_sizes(), scanned_names(graph), given.padding

    def fitting(name: str) -> list[int]:
        pinned = given.pinned.get(name, 0)
        found = [sizes[name], *([] if name in scanned else longer_sizes(sizes[name], layout))]
        return [size for size in found if int(layout.fitting(size)[pinned]) == pinned]

    if names == (ANY,):
        own = [name for name in sorted(sizes) if not is_part(name)]
        return [{}, *({name: size} for name in own for size in fitting(name) if size > sizes[name])]
    every: list[list[int]] = []
    for name in names:
        if name not in sizes:
            raise errors.padding_name(name, tuple(sizes))
        if name in scanned or not longer_sizes(sizes[name], layout):
            raise errors.padding_in_vain(name, sizes[name], str(layout), name in scanned)
        every.append(fitting(name))
    found = [dict(zip(names, each, strict=True)) for each in product(*every)]
    found = [{name: size for name, size in each.items() if size > sizes[name]} for each in found]
    return sorted(found, key=len)


def written(sizes: Mapping[str, int]) -> tuple[str, ...]:
    """`vocab=50260` for each name."""
    return tuple([f"{name}={size}" for name, size in sorted(sizes.items())])


def longer_sizes(size: int, layout: DeviceMesh) -> list[int]:
    """The sizes above one that some mesh axes together divide which do not divide it, each the next for these axes."""
    groups = {int(layout.group(mask)) for mask in range(layout.masks)}
    return sorted({-(-size // group) * group for group in groups if size % group})
