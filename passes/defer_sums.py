"""Gradients that a loop adds up are reduced once, after the loop, and not in every trip.

A sum over devices and a sum over trips can change places. Where all that a loop adds to a carry has been reduced over
the same mesh axes, the carry can be *partial* over them instead: it starts from zeros on each device, each trip adds
what the device has, and one reduction follows the loop. That is one reduction of a gradient per step in place of one
per micro-batch. The way from the reduction to the carry may lead through what is linear (sums, products with a scalar,
transposes, casts between floats) and out of the loops inside, such as that over layers. A cast to a shorter float then
rounds what each device has, and not their sum.

It costs memory: the carry is not sharded over the mesh axes that a reduce-scatter shards it over. So it is done for as
many carries as the chip has room for beside what the plan needs, those first that need the least.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ir.analysis.uses import Uses
from ir.graph import Attr, Graph, Node, Operand, Value
from ir.ops import entered, op_of
from ir.rewrite import Rewriter, Scope
from ir.types import TensorType
from passes.planner.room import room
from passes.sharding.pending import Deferral, Index, Step, deferrals, together, zeros_behind
from passes.stage import Need, Pass, Stage


@dataclass(frozen=True)
class DeferSums(Pass):
    """Pass: reduces what a loop adds up once, after the loop, where there is room for the pending sums.

    Attributes:
        memory: whether what does not fit beside the plan's peak is left as it is; if not, all is reduced after loops. A
            plan that says so itself (`defer_sums`) is followed.
    """

    needs: ClassVar[Need | None] = "mesh"

    memory: bool = True

    def apply(self, stage: Stage) -> Stage:
        """The stage with such reductions behind their loops."""
        given = stage.plan.defer_sums if stage.plan is not None else None
        found = deferrals(stage.graph) if given is not False else []
        if not found or stage.mesh is None:
            return stage
        sizes = stage.mesh.as_dict()
        left = room(stage) if self.memory and given is None else None
        if left is not None:
            found = together(_fitting(found, stage.graph, sizes, left), Index.of(stage.graph))
        return replace(stage, graph=_Writer(stage.graph, found, sizes).graph(stage.graph))


def _fitting(found: Sequence[Deferral], graph: Graph, sizes: Mapping[str, int], room: int) -> list[Deferral]:
    """As many as there is room for, those that need the least first; in the order of the program."""
    kept = {value.id: value.type for node in graph.walk() if entered(node) for value in node.outputs}
    chosen: set[int] = set()
    costs = [each.extra_bytes(kept, sizes) for each in found]
    for i in sorted(range(len(found)), key=lambda i: costs[i]):
        room -= costs[i]
        if room >= 0:
            chosen.add(i)
    return [each for i, each in enumerate(found) if i in chosen]


class _Writer:
    """Copies a graph, with some carries partial."""

    def __init__(self, graph: Graph, chosen: Sequence[Deferral], sizes: Mapping[str, int]) -> None:
        self.fresh = Rewriter(graph).fresh
        self.sizes = sizes
        self.types: dict[int, TensorType] = {}
        self.dropped: dict[int, Value] = {}
        self.last = {each.result.id: each for each in chosen}
        for each in chosen:
            self.types |= each.types
            self.dropped |= each.dropped
        self.starts = {start for each in chosen for start in each.starts}
        uses = Uses.of(graph)
        self.producer = uses.producer
        zeros = Counter(
            operand.id
            for node in uses.nodes
            for operand in (node.inputs[at] for _, at in self._started(node))
            if isinstance(operand, Value)
        )
        self.unread = {number for number, count in zeros.items() if uses.reads[number] == count}

    def graph(self, graph: Graph) -> Graph:
        scope = Scope()
        inputs = tuple([scope.define(value, self.typed(value)) for value in graph.inputs])
        for node in graph.nodes:
            made = node.outputs[0].id if node.outputs else None
            if made in self.dropped:
                read = scope.read(self.dropped[made])
                assert isinstance(read, Value)
                scope.define(node.outputs[0], read)
            elif made not in self.unread:
                self.node(node, scope)
        return scope.finish(graph, inputs=inputs)

    def typed(self, value: Value) -> Value:
        return replace(value, type=self.types[value.id]) if value.id in self.types else value

    def node(self, node: Node, scope: Scope) -> None:
        current = scope.current(node, self.graph)
        inputs = list(current.inputs)
        for before, at in self._started(node):
            inputs[at] = self.zeros(node.inputs[at], self.types[before.id], scope)
        results = [self._pending(value) for value in node.outputs]
        scope.append(replace(current, inputs=tuple(inputs), outputs=tuple(results)))
        for value, result in zip(node.outputs, results, strict=True):
            scope.define(value, result)
            if value.id in self.last:
                scope.define(value, self.complete(self.last[value.id], result, scope))

    def _pending(self, value: Value) -> Value:
        if value.id in self.last:
            return self.fresh(replace(value, type=self.last[value.id].partial))
        return self.typed(value)

    def _started(self, node: Node) -> list[tuple[Value, int]]:
        """For each carry of a loop that starts from zeros: the value inside, and the position of the operand."""
        found: list[tuple[Value, int]] = []
        for position, (before, _) in enumerate(op_of(node).carries(node) if entered(node) else ()):
            if (node.outputs[0].id, position) in self.starts:
                body = node.bodies[-1]
                found.append((before, len(node.inputs) - len(body.inputs) + body.inputs.index(before)))
        return found

    def zeros(self, operand: Operand, type_: TensorType, scope: Scope) -> Operand:
        """Zeros of a partial carry: their sum over devices is zero too."""
        assert isinstance(operand, Value)
        node = zeros_behind(operand, self.producer)
        assert node is not None
        result = self.fresh(replace(operand, type=type_))
        scope.append(replace(node, outputs=(result,)))
        return result

    def complete(self, deferral: Deferral, value: Value, scope: Scope) -> Value:
        """The result of a loop after the reductions that waited for its end."""
        for step in deferral.steps:
            last = step is deferral.steps[-1]
            result = deferral.result if last else self.fresh(replace(value, type=step.after(value.type)))
            scope.append(self.step(step, value, result))
            value = result
        return value

    def step(self, step: Step, value: Value, result: Value) -> Node:
        node = step.node
        counted = value if op_of(node).completes_sums else result
        attrs: dict[str, Attr] = {**node.attrs, "bytes": counted.type.local_bytes(self.sizes)}
        return replace(node, inputs=(value,), outputs=(result,), attrs=attrs)
