"""What every trip of a loop gathers anew is gathered once, before the loop.

A parameter that a loop over micro-batches reads is the same in each trip; sharded, it would be gathered in every one.
Gathered before the loop it is gathered once a step, and kept as long as the loop runs. So it is with what a loop over
layers reads besides its layer's own parameters. A stack of layers that a loop inside scans over is gathered as a whole.

It costs the memory of the gathered values, and is done for as many as the chip has room for beside the plan and the
sums that `passes.defer_sums` keeps pending, those first that need the least.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ir.graph import Attr, Graph, Node, Operand, Value
from ir.ops import entered, op_of
from ir.rewrite import Rewriter, Scope
from ir.types import TensorType
from passes.planner.room import room
from passes.sharding.pending import Index, constants
from passes.stage import Need, Pass, Stage


@dataclass(frozen=True)
class HoistGathers(Pass):
    """Pass: gathers once, before a loop, what every trip would gather, where there is room to keep it.

    Attributes:
        memory: whether what does not fit beside the plan's peak is left as it is; if not, all is gathered before loops.
            A plan that says so itself (`hoist_gathers`) is followed.
    """

    needs: ClassVar[Need | None] = "mesh"

    memory: bool = True

    def apply(self, stage: Stage) -> Stage:
        """The stage with such gathers before their loops."""
        given = stage.plan.hoist_gathers if stage.plan is not None else None
        if stage.mesh is None or given is False:
            return stage
        sizes = stage.mesh.as_dict()
        left = room(stage) if self.memory and given is None else None
        graph = stage.graph
        while True:  # a value may be gathered in steps, and come through loops in loops
            found = sorted(hoists(graph), key=lambda each: each.bytes(sizes))
            chosen: dict[tuple[int, int], Hoist] = {}
            for each in found:
                if left is None or each.bytes(sizes) <= left:
                    left = None if left is None else left - each.bytes(sizes)
                    chosen[each.key] = each
            if not chosen:
                return replace(stage, graph=graph)
            graph = _Writer(graph, chosen, sizes).graph(graph)


@dataclass(frozen=True)
class Hoist:
    """An operand of a loop that is gathered in every trip.

    Attributes:
        loop: the node; `position` says which of its operands it is.
        gather: one of the gathers inside.
        type: that of the operand, gathered.
        types: by number, the gathered types of what it is called inside of the loop.
        dropped: by the number of its result, the operand of each gather that is left out.
    """

    loop: Node
    position: int
    gather: Node
    type: TensorType
    types: Mapping[int, TensorType]
    dropped: Mapping[int, Value]

    @property
    def key(self) -> tuple[int, int]:
        return self.loop.outputs[0].id, self.position

    def bytes(self, sizes: Mapping[str, int]) -> int:
        """What it costs in memory on each device."""
        return self.type.local_bytes(sizes)


def kept_bytes(placed: Graph, planned: Mapping[int, TensorType], sizes: Mapping[str, int]) -> int:
    """What a placed graph keeps on each device because values were gathered before loops that, as planned, gather them
    in every trip.

    Args:
        planned: by number, the types of values as the plan lays them out.
    """
    gathered = {value for node in placed.nodes if _lost(node) for value in node.outputs}
    kept: set[Value] = set()
    found = 0
    for node in placed.nodes:
        found += sum(kept_bytes(body, planned, sizes) for body in entered(node))
        for position, inside in constants(node):
            operand = node.inputs[position]
            planned_type = planned.get(inside.id, inside.type)
            if isinstance(operand, Value) and operand in gathered and planned_type != inside.type:
                kept.add(operand)
    return found + sum(value.type.local_bytes(sizes) for value in kept)


def hoists(graph: Graph) -> list[Hoist]:
    """All that loops gather in every trip, in the order of the program; of loops in loops what the outer one can."""
    return list(_search(graph, Index.of(graph), set()))


def _search(graph: Graph, index: Index, taken: set[int]) -> Iterator[Hoist]:
    for node in graph.nodes:
        for position, inside in constants(node):
            found = None if inside.id in taken else _Attempt(index).hoist(node, position, inside)
            if found is not None:
                taken |= set(found.types)
                yield found
        for body in entered(node):
            yield from _search(body, index, taken)


class _Attempt:
    """The way from a loop's operand to the gathers that read it."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.values: dict[int, Value] = {}
        self.gathers: dict[int, Node] = {}

    def hoist(self, loop: Node, position: int, inside: Value) -> Hoist | None:
        """The operand with all its gathers; None where something in the loop reads its shard, or nothing gathers it."""
        if not self.follow(inside) or not self.gathers:
            return None
        lost = {_lost(node) for node in self.gathers.values()}
        if len(lost) > 1:
            return None
        (axes,) = lost
        types = {number: _without(value.type, axes) for number, value in self.values.items()}
        dropped: dict[int, Value] = {}
        for number, node in self.gathers.items():
            (source,) = node.value_inputs
            if types[source.id] != node.outputs[0].type:
                return None
            dropped[number] = source
        first = next(iter(self.gathers.values()))
        return Hoist(loop, position, first, _without(loop.inputs[position].type, axes), types, dropped)

    def follow(self, value: Value) -> bool:
        """Whether all that reads a value, or what is made of it element by element, are gathers."""
        self.values[value.id] = value
        if value.id in self.index.leaving:
            return False
        return all([self._reads(node, value) for node in self.index.readers.get(value.id, ())])

    def _reads(self, node: Node, value: Value) -> bool:
        op = op_of(node)
        if op.moves_data_only:
            self.gathers[node.outputs[0].id] = node
            return bool(_lost(node))
        if entered(node):
            return all(self._enters(node, body, value) for body in node.bodies)
        alone = len(node.outputs) == 1 and len([each for each in node.inputs if each.type.dims]) == 1
        return alone and op.keeps_elements(node) and self.follow(node.outputs[0])

    def _enters(self, node: Node, body: Graph, value: Value) -> bool:
        op = op_of(node)
        for each, feeds in op.body_operands(node):
            for at, (operand, inside, _) in enumerate(feeds if each is body else ()):
                if operand == value and (op.is_carry(node, at) or not self.follow(inside)):
                    return False
        return True


def _lost(node: Node) -> frozenset[str]:
    """The mesh axes that a gather, and nothing else, undoes; none for other moves."""
    op = op_of(node)
    if not op.communicates or op.completes_sums or op.exchanges or op.passes_on:
        return frozenset()
    before, after = node.inputs[0].type, node.outputs[0].type
    pairs = zip(before.dims, after.dims, strict=True)
    return frozenset(axis for a, b in pairs for axis in a.mesh if axis not in b.mesh)


def _without(type_: TensorType, axes: frozenset[str]) -> TensorType:
    dims = [replace(dim, mesh=tuple([axis for axis in dim.mesh if axis not in axes])) for dim in type_.dims]
    return replace(type_, dims=tuple(dims))


class _Writer:
    """Copies a graph, with some gathers before their loops."""

    def __init__(self, graph: Graph, chosen: Mapping[tuple[int, int], Hoist], sizes: Mapping[str, int]) -> None:
        self.fresh = Rewriter(graph).fresh
        self.chosen = chosen
        self.sizes = sizes
        self.types: dict[int, TensorType] = {}
        self.dropped: dict[int, Value] = {}
        for each in chosen.values():
            self.types |= each.types
            self.dropped |= each.dropped

    def graph(self, graph: Graph) -> Graph:
        scope = Scope()
        copies: dict[tuple[int, TensorType], Value] = {}
        inputs = tuple([scope.define(value, self.typed(value)) for value in graph.inputs])
        for node in graph.nodes:
            made = node.outputs[0].id if node.outputs else None
            if made in self.dropped:
                read = scope.read(self.dropped[made])
                assert isinstance(read, Value)
                scope.define(node.outputs[0], read)
                continue
            current = scope.current(node, self.graph)
            operands: list[Operand] = list(current.inputs)
            for position in range(len(operands) if node.outputs else 0):
                hoist = self.chosen.get((node.outputs[0].id, position))
                if hoist is not None:
                    operands[position] = self.gathered(hoist, operands[position], scope, copies)
            results = tuple([scope.define(value, self.typed(value)) for value in node.outputs])
            scope.append(replace(current, inputs=tuple(operands), outputs=results))
        return scope.finish(graph, inputs=inputs)

    def typed(self, value: Value) -> Value:
        return replace(value, type=self.types[value.id]) if value.id in self.types else value

    def gathered(
        self, hoist: Hoist, operand: Operand, scope: Scope, copies: dict[tuple[int, TensorType], Value]
    ) -> Operand:
        """The operand of a loop, gathered before it; once for the same value."""
        assert isinstance(operand, Value)
        key = operand.id, hoist.type
        if key not in copies:
            copies[key] = self.fresh(replace(operand, type=hoist.type))
            attrs: dict[str, Attr] = {**hoist.gather.attrs, "bytes": hoist.type.local_bytes(self.sizes)}
            node = replace(hoist.gather, inputs=(operand,), outputs=(copies[key],), attrs=attrs, phase="forward")
            scope.append(node)
        return copies[key]
