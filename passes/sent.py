"""What is sent for each collective of a placed graph on the chips that it is planned for.

The rules are those that plans are priced by (`passes.hardware.sends`); here they are asked of nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

from ir.graph import Graph, Node, Value
from ir.ops import OPS, op_of
from ir.types import item_size
from passes.hardware.scatters import Scattered
from passes.hardware.sends import JOINT, UNIFORM, Printed, Sends, is_vector, squared, unscattered
from passes.planner.halves import Halves, is_uniform, slices_of_stacks
from passes.planner.layouts import Layouts


@dataclass(frozen=True)
class Sent:
    """What is sent for a collective: `bytes` of a group, and why that is something else than is printed, if it is."""

    kind: str
    mesh_axes: tuple[str, ...]
    bytes: int
    reason: str = ""


@dataclass
class Sending:
    """What is sent for the collectives of a placed graph.

    Attributes:
        joint: by the number of its result, a collective that is sent with those before it: over which mesh axes, of how
            many bytes, and what the first of them is given.
        apart: by mask, whether nothing is reduce-scattered over its mesh axes, and whether they are a square of
            four chips.
        silent: the numbers of results for which nothing is sent by itself, and why.
        summed: the numbers of sums of arrays.
        sliced: those of slices that loops read of stacks.
    """

    plan: Layouts
    sends: Sends | None
    apart: Sequence[tuple[bool, bool]]
    halves: Halves
    joint: dict[int, tuple[tuple[str, ...], int, Value]] = field(
        default_factory=dict[int, tuple[tuple[str, ...], int, Value]]
    )
    silent: dict[int, str] = field(default_factory=dict[int, str])
    summed: set[int] = field(default_factory=set[int])
    sliced: set[int] = field(default_factory=set[int])

    @classmethod
    def of(cls, placed: Graph, plan: Layouts) -> Sending:
        network = plan.physical
        form = network.torus.form if network.torus is not None else ()
        apart = unscattered(plan.mesh, form).tolist(), squared(plan.mesh, network.torus).tolist()
        found = cls(plan, network.sends, list(zip(*apart, strict=True)), Halves.of(placed))
        if network.sends is not None:
            found.sliced.update(slices_of_stacks(placed))
            for scope in (placed, *(body for node in placed.walk() for body in node.bodies)):
                found._search(scope)
        return found

    def _search(self, scope: Graph) -> None:
        reads = Counter(value.id for node in scope.nodes for value in node.value_inputs)
        reads.update(operand.id for operand in scope.outputs if isinstance(operand, Value))
        makers: dict[int, Node] = {}
        uniform: set[int] = set()
        for node in scope.nodes:
            if is_uniform(node) or (op_of(node).moves_data_only and node.value_inputs[0].id in uniform):
                uniform.update(value.id for value in node.outputs)
                if op_of(node).gathers:
                    self.silent[node.outputs[0].id] = UNIFORM
            before = makers.get(node.value_inputs[0].id) if node.value_inputs else None
            passes_on = op_of(node).is_elementwise or op_of(node).communicates or op_of(node).slices_shards
            own = passes_on and len(node.value_inputs) == 1 and node.value_inputs[0].id in self.summed
            if op_of(node).sums(node) or own:
                self.summed.update(value.id for value in node.outputs)
            moved = op_of(node).communicates or op_of(node).slices_shards
            if moved and len(node.value_inputs) == 1 and node.value_inputs[0].id in self.sliced:
                self.sliced.update(value.id for value in node.outputs)
            like = before is not None and before.kind == node.kind and op_of(node).communicates
            if before is not None and like and reads[before.outputs[0].id] == 1:
                self._join(before, node)
            makers.update({value.id: node for value in node.outputs})

    def _join(self, before: Node, node: Node) -> None:
        mesh, over = self.plan.mesh, node.words("mesh")
        first, size, given = self._given(before)
        if self.sends is not None and self.sends.one(node.kind, mesh.mask(first), mesh.mask(over)):
            axes = mesh.names(mesh.mask(first) | mesh.mask(over))
            self.joint[node.outputs[0].id] = axes, max(size, node.count("bytes")), given
            self.silent[before.outputs[0].id] = JOINT

    def _given(self, node: Node) -> tuple[tuple[str, ...], int, Value]:
        """Over which mesh axes a collective is sent with those before it, of how many bytes, and what it is given."""
        own = node.words("mesh"), node.count("bytes"), node.value_inputs[0]
        return self.joint.get(node.outputs[0].id, own)

    def for_node(self, node: Node) -> Iterator[tuple[str, int, Sent | None]]:
        """Kind and bytes of each collective that a node is printed as, and what is sent for it; None for what is not
        sent by itself."""
        mesh, sizes = self.plan.mesh, self.plan.mesh.as_dict()
        (result,) = node.outputs
        for kind, volume in op_of(node).sends(node, sizes):
            if self.sends is None:
                yield kind, volume, Sent(kind, node.words("mesh"), volume)
            elif result.id in self.silent:
                yield kind, volume, None
            else:
                over, size, given = self._given(node)
                size = size if result.id in self.joint else volume
                mask = mesh.mask(over)
                made, had = self._local(result), self._local(given)
                scattered = _scattered(given, had, made, given.id in self.summed) if OPS[kind].scatters else None
                halved = result.type.dtype == "float32" and self.halves.take(result)
                halved = halved and not _in_lone_rows(self.sends, had, made, given.id in self.sliced)
                each = Printed(kind, mask, size, bool(is_vector(made)), prod(had), halved, scattered)
                sent, size, reason = self.sends.of(each, *self.apart[mask])
                yield kind, volume, Sent(sent, over, size, reason or (JOINT if result.id in self.joint else ""))

    def written(self, node: Node, by_rows: bool) -> tuple[tuple[int, ...], bool]:
        """How a reduce-scatter is to be written so that it is sent as one, of no more bytes: the order of the dims of
        what it is given from the outermost, and whether that is a stack of shards; neither where it is so as it is.

        Args:
            by_rows: whether it is given what lies in the order of its dims, whatever becomes of it.
        """
        (result,), (given,) = node.outputs, node.value_inputs
        mask = self.plan.mesh.mask(node.words("mesh"))
        whole, square = self.apart[mask]
        had = self._local(given)
        each = _scattered(given, had, self._local(result), given.id in self.summed)
        if self.sends is None or each is None or whole or not self.sends.inside(mask):
            return (), False
        if result.id in self.joint or result.id in self.silent or not self.sends.scatters.in_tiles(each, square):
            return (), False
        if by_rows:
            order, stacked = self.sends.scatters.layout(each, square), False
        else:
            order, stacked = self.sends.scatters.unfilled(each, int(self.plan.mesh.group(mask)), square)
        long = [i for i, dim in enumerate(given.type.dims) if dim.size > 1]
        short = [i for i in range(len(had)) if i not in long]
        return (tuple([*short, *(long[at] for at in order)]) if order else ()), stacked

    def _local(self, value: Value) -> list[int]:
        """The sizes of its dims on one device."""
        sizes = self.plan.mesh.as_dict()
        return [dim.size // prod(sizes[axis] for axis in dim.mesh) for dim in value.type.dims]


def _scattered(given: Value, before: Sequence[int], after: Sequence[int], summed: bool) -> Scattered | None:
    """What a reduce-scatter cuts; None for a vector."""
    long = [i for i, dim in enumerate(given.type.dims) if dim.size > 1]
    cut = [i for i in long if before[i] != after[i]]
    if len(long) < 2 or len(cut) != 1:
        return None
    sizes = tuple([before[i] for i in long])
    return Scattered(sizes, long.index(cut[0]), after[cut[0]], item_size(given.type.dtype), summed=summed)


def _in_lone_rows(sends: Sends, before: Sequence[int], after: Sequence[int], sliced: bool) -> bool:
    """Whether what is gathered lies in tiles of one row."""
    longer = [i for i, (size, made) in enumerate(zip(before, after, strict=True)) if size < made]
    if len(longer) != 1:
        return False
    (at,) = longer
    return bool(sends.in_lone_rows(after, at) or (sliced and sends.in_lone_slices(after, at, before[at])))
