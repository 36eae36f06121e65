"""The space of plans of a graph on a mesh.

Every name may go, for compute, on any set of mesh axes that divides it. Storage adds one set of mesh axes (FSDP) on one
name of the state, or, where no name is in most of it, on all of its names: each array is stored over the first that
divides by all of them, those that are in most bytes of the state first. Other names are stored besides over mesh axes
that the batch has wherever they are computed with: a rule for compute that only what is at rest follows. Names that a
loop scans over are replicated: each iteration needs its slice on every device.

Names have a fixed priority order: first the leading names of the batch, then the others from the most specific to the
most widespread (by how many values have them). So `mlp` or `heads` get a mesh axis before `position` does, and
`position` takes it wherever they leave it free: sequence parallelism.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from ir.graph import Graph, Node
from ir.ops import entered, op_of
from ir.types import SUMS
from passes.sharding.mesh import DeviceMesh, IntArray, Mask
from passes.sharding.rules import OrderWhere

_MOST = 0.95
"""Of the bytes of the state, what a name is in that is stored alone."""
_LARGER = 2.0
"""How many times as many plans a space may have for its prices to serve others."""


@dataclass(frozen=True)
class StorageAxes:
    """A storage choice: the storage (FSDP) axes of `mask` are added to a name, or, of several, in each array to the
    first that divides by all of them; to none where nothing is added."""

    names: tuple[str, ...]
    mask: int

    @property
    def extra(self) -> dict[str, int]:
        """The storage axes of each name."""
        return dict.fromkeys(self.names, self.mask)


@dataclass(frozen=True)
class PlanSpace:
    """Names with a choice, in priority order, their options as masks, and the storage choices; where the order is
    another one; pairs of names of which in every plan both are on some mesh axis; of a space that was restricted
    (`passes.planner.constraints`) the parts that were searched."""

    mesh: DeviceMesh
    order: tuple[str, ...]
    options: dict[str, IntArray]
    storage_choices: tuple[StorageAxes, ...]
    fixed: dict[str, str]
    parts: "tuple[PlanSpace, ...]" = ()
    order_where: OrderWhere = field(default_factory=dict[str, tuple[str, ...]])
    together: tuple[tuple[str, str], ...] = ()

    @property
    def plans(self) -> int:
        """How many plans the space has."""
        if self.parts:
            return sum(part.plans for part in self.parts)
        paired = list(dict.fromkeys(name for pair in self.together for name in pair))
        grid = np.meshgrid(*[self.options[name] for name in paired], indexing="ij")
        total = int(np.sum(self.has(dict(zip(paired, grid, strict=True))))) * len(self.storage_choices)
        for name, options in self.options.items():
            total *= len(options) if name not in paired else 1
        return total

    def has(self, masks: Mapping[str, Mask]) -> Any:
        """Whether each pair that has to be is together on some mesh axis, where the names have these options."""
        found: Any = np.True_
        for name, other in self.together:
            found = found & (np.asarray(masks[name]) & masks[other] != 0)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.options)

    @cached_property
    def wishes(self) -> dict[str, tuple[int, int]]:
        """Of each name the mesh axes that it has in some option, and those that it has in all."""
        return {
            name: (int(np.bitwise_or.reduce(options)), int(np.bitwise_and.reduce(options)))
            for name, options in self.options.items()
        }

    def storing(self, names: tuple[str, ...]) -> int:
        """The mesh axes that are storage axes of some names in some choice."""
        masks = [choice.mask for choice in self.storage_choices if choice.names == names]
        return int(np.bitwise_or.reduce(np.array(masks, np.int64)))

    @cached_property
    def room(self) -> dict[tuple[str, int], bool]:
        """Whether a name of a size has room for each of its options, where that was asked (`tables.has_room`)."""
        return {}


def scanned_names(graph: Graph) -> frozenset[str]:
    """The names that loops scan over."""
    return frozenset(name for node in graph.walk() for name in op_of(node).scanned(node))


def plan_space(graph: Graph, mesh: DeviceMesh) -> PlanSpace:
    """All plans of the graph on the mesh; `fixed` says of each name without a choice why it has none."""
    sizes = graph.axis_sizes()
    scanned = scanned_names(graph)
    order = _priority_order(graph)
    options: dict[str, IntArray] = {}
    fixed: dict[str, str] = {}
    idle = mesh.mask([axis for axis, size in mesh.as_dict().items() if size == 1])
    useful = [mask for mask in range(mesh.masks) if not mask & idle]
    shared = shared_trips(graph)
    every = mesh.mask([axis for axis, size in mesh.as_dict().items() if size > 1])
    for name in order:
        fitting = mesh.fitting(sizes[name])
        dividing = [mask for mask in useful if fitting[mask] == mask]
        if shared and every and name in shared and fitting[every] == every:
            options[name] = np.array([every], dtype=np.int64)
        elif shared:
            fixed[name] = "each device computes whole trips of the loop over virtual shards"
        elif name in scanned:
            fixed[name] = "scanned over by a loop: every device needs each slice"
        elif len(dividing) == 1:
            fixed[name] = f"no mesh axis divides {sizes[name]}"
        else:
            options[name] = np.array(dividing, dtype=np.int64)
    state = {name for before, _ in graph.carried for name in graph.inputs[before].type.names}
    names = [name for name in order if name in state and name not in scanned]
    if several := not shared and _needs_several(graph, mesh, names):
        of = _state_bytes(graph)
        names = sorted(names, key=lambda name: (-of[name], name))
    storage_choices = [StorageAxes((), 0)]
    if shared:
        # A sum in order adds up along the innermost mesh axes first, so these are the ones that share it out.
        useful = [mask for mask in useful if mask in _innermost(mesh, idle)]
        names = names if not updates_whole(graph) else []
    fitting = {name: mesh.fitting(sizes[name]) for name in names}
    for name in names:
        storage_choices += [StorageAxes((name,), mask) for mask in useful if mask and fitting[name][mask] == mask]
    if several:
        some = [mask for mask in useful if mask and any(each[mask] == mask for each in fitting.values())]
        storage_choices += [StorageAxes(tuple(names), mask) for mask in some]
    return PlanSpace(mesh, order, options, tuple(storage_choices), fixed)


def widened(spaces: Sequence[PlanSpace]) -> list[PlanSpace]:
    """Each of the spaces with the options that others have besides, where that makes it little larger: what is priced
    in one then serves them all."""
    found: list[PlanSpace] = []
    for space in spaces:
        options = {name: np.unique(np.concatenate([each.options[name] for each in spaces])) for name in space.names}
        larger = prod(len(options[name]) / len(each) for name, each in space.options.items())
        found.append(replace(space, options=options) if larger <= _LARGER else space)
    return found


def _state_bytes(graph: Graph) -> Counter[str]:
    """Bytes of the state that each name is in."""
    found: Counter[str] = Counter()
    for before, _ in graph.carried:
        type_ = graph.inputs[before].type
        found.update(dict.fromkeys(dict.fromkeys(type_.names), type_.bytes))
    return found


def _needs_several(graph: Graph, mesh: DeviceMesh, names: Sequence[str]) -> bool:
    """Whether no name alone is in most of the state, with a size there that mesh axes divide."""
    state = [graph.inputs[before].type for before, _ in graph.carried]
    divided = [{dim.name for dim in type_.dims if mesh.fitting(dim.size)[mesh.masks - 1]} for type_ in state]
    of = [sum(type_.bytes for type_, there in zip(state, divided, strict=True) if name in there) for name in names]
    return max(of, default=0) < _MOST * sum(type_.bytes for type_ in state if {*type_.names} & {*names})


def shared_trips(graph: Graph) -> set[str]:
    """The axes of the loops whose trips devices share; none where a step has no such loop."""
    return {name for node in graph.walk() if op_of(node).shares_trips for name in node.names("over")}


def updates_whole(graph: Graph) -> Node | None:
    """The first node of the update whose result has other bits where it is computed in shards, as a product or a sum
    has. None where there is none, as in an update element by element."""
    return next((node for node in graph.nodes if node.phase == "update" and not _same_bits(node)), None)


def _same_bits(node: Node) -> bool:
    op = op_of(node)
    if not any(value.type.dims for value in (*node.value_inputs, *node.outputs)):
        return True
    if entered(node):
        return op.only_groups(node) and all(_same_bits(inner) for body in node.bodies for inner in body.nodes)
    if op.reduced(node) and op.reduction(node) not in SUMS:  # a maximum has no rounding
        return True
    return op.same_bits_on_shards or op.keeps_elements(node) or op.counts or op.widens(node) or op.reorders(node)


def _innermost(mesh: DeviceMesh, idle: int) -> list[int]:
    """The sets of mesh axes that have, with one axis, all that lie inside of it."""
    axes = [axis for axis in mesh.axes if not mesh.mask([axis]) & idle]
    return [mesh.mask(axes[i:]) for i in range(len(axes))]


def _priority_order(graph: Graph) -> tuple[str, ...]:
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
