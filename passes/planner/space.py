"""The space of plans of a graph on a mesh.

Every name may go, for compute, on any set of mesh axes that divides it. Storage adds one set of mesh axes (FSDP) on one
name of the state. Names that a loop scans over are left whole: each iteration needs its slice on every device.

Names are served in a fixed order: first the leading names of the batch, then the others from the most specific to the
most widespread (by how many values have them). So `mlp` or `heads` get a mesh axis before `position` does, and
`position` takes it wherever they leave it free: sequence parallelism.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ir.graph import Graph
from ir.ops import op_of
from passes.sharding.mesh import DeviceMesh, IntArray
from passes.sharding.rules import Wish


@dataclass(frozen=True)
class Extension:
    """A storage choice: the mesh axes of `mask` are added to the name `host` (None: nothing is added)."""

    host: str | None
    mask: int


@dataclass(frozen=True)
class PlanSpace:
    """Names with a choice, in serving order, their options as masks, and the storage choices."""

    mesh: DeviceMesh
    order: tuple[str, ...]
    options: dict[str, IntArray]
    extensions: tuple[Extension, ...]
    fixed: dict[str, str]

    @property
    def plans(self) -> int:
        """How many plans the space has."""
        total = len(self.extensions)
        for options in self.options.values():
            total *= len(options)
        return total

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.options)

    def wish(self, extension: Extension, names: tuple[str, ...], chosen: dict[str, IntArray] | None = None) -> Wish:
        """A grid of wishes over the options of `names` (one array axis each), or over `chosen` masks."""
        compute: dict[str, IntArray] = {}
        for position, name in enumerate(names):
            if chosen is not None:
                compute[name] = chosen[name]
                continue
            shape = [1] * len(names)
            shape[position] = -1
            compute[name] = self.options[name].reshape(shape)
        extra = {extension.host: extension.mask} if extension.host is not None else {}
        return Wish(self.mesh, self.order, compute, extra)


def plan_space(graph: Graph, mesh: DeviceMesh) -> PlanSpace:
    """All plans of the graph on the mesh; `fixed` says of each name without a choice why it has none."""
    sizes = graph.axis_sizes()
    scanned = {name for node in graph.walk() for name in op_of(node).scanned(node)}
    order = _serving_order(graph)
    options: dict[str, IntArray] = {}
    fixed: dict[str, str] = {}
    idle = mesh.mask([axis for axis, size in mesh.as_dict().items() if size == 1])
    useful = [mask for mask in range(mesh.masks) if not mask & idle]
    for name in order:
        fitting = mesh.fitting(sizes[name])
        dividing = [mask for mask in useful if fitting[mask] == mask]
        if name in scanned:
            fixed[name] = "scanned over by a loop: every device needs each slice"
        elif len(dividing) == 1:
            fixed[name] = f"no mesh axis divides {sizes[name]}"
        else:
            options[name] = np.array(dividing, dtype=np.int64)
    state = {name for before, _ in graph.carried for name in graph.inputs[before].type.names}
    hosts = [name for name in order if name in state and name not in scanned]
    extensions = [Extension(None, 0)]
    for host in hosts:
        fitting = mesh.fitting(sizes[host])
        extensions += [Extension(host, mask) for mask in useful if mask and fitting[mask] == mask]
    return PlanSpace(mesh, order, options, tuple(extensions), fixed)


def _serving_order(graph: Graph) -> tuple[str, ...]:
    mentions: Counter[str] = Counter()
    for value in graph.values():
        mentions.update(set(value.type.names))
    carried = {before for before, _ in graph.carried}
    leading: list[str] = []
    for i, value in enumerate(graph.inputs):
        if i not in carried and value.type.dims and value.type.dims[0].name is not None:
            leading.append(value.type.dims[0].name)
    leading = list(dict.fromkeys(leading)) if carried else []
    rest = sorted((name for name in mentions if name not in leading), key=lambda name: (mentions[name], name))
    return (*leading, *rest)
