"""Which sums may wait to be reduced until a loop has added them up, for the price of a plan.

The way back from a carry is that of `passes.sharding.pending`, but ends at sums over names, such as a contraction over
the batch. Whether they wait depends on the plan (all must be pending over the same mesh axes, and there must be room);
here all of them do.
"""

from dataclasses import dataclass, replace

from ir.graph import Graph, Node, Operand, Value
from ir.ops import entered, op_of
from ir.types import SUM
from passes.sharding.pending import Attempt, Index, Stays, Step


@dataclass(frozen=True)
class Waiting:
    """How often a sum is reduced for each time that it is made, and how many of them are stacked and reduced as one."""

    share: float = 1.0
    stacked: int = 1


def waiting(graph: Graph) -> dict[int, Waiting]:
    """Of a graph before it is placed, the sums whose reductions may wait for the end of a loop, by number."""
    found: dict[int, Waiting] = {}
    _search(graph, Index.of(graph), found)
    return found


def _search(graph: Graph, index: Index, found: dict[int, Waiting]) -> None:
    for node in graph.nodes:
        sums: dict[int, Waiting] = {}
        for position in range(len(op_of(node).carries(node)) if entered(node) else 0):
            try:
                sums |= _Unplaced(index).sums_of(node, position)
            except Stays:
                continue
        found.update(sums)
        if not sums:
            for body in entered(node):
                _search(body, index, found)


class _Unplaced(Attempt):
    """The way back from a carry before there are collectives: it ends at sums over names."""

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self.sums: dict[int, Waiting] = {}
        self.here = Waiting()

    def sums_of(self, loop: Node, position: int) -> dict[int, Waiting]:
        """The sums that a carry adds up. Raises `Stays`."""
        self.here = Waiting(1 / loop.count("trips", 1))
        if self.carry(loop, position) is None:
            raise Stays
        for value in self.values.values():
            self.check_readers(value, loop.outputs[position])
        # What is added up before it is reduced is reduced once.
        left = loop.outputs[position].type.elements
        for number, wait in self.sums.items():
            left -= self.values[number].type.elements * wait.stacked
            if left < 0:
                self.sums[number] = replace(wait, share=0.0)
        return self.sums

    def structured(self, node: Node, result: Value) -> tuple[Step, ...] | None:
        around, trips = self.here, node.count("trips", 1)
        stacked = any(
            flag and outside == result for _, each in op_of(node).body_results(node) for _, outside, flag in each
        )
        self.here = Waiting(around.share / trips, around.stacked * (trips if stacked else 1))
        steps = super().structured(node, result)
        self.here = around
        return steps

    def way(self, operand: Operand) -> tuple[Step, ...] | None:
        node = self.index.producer.get(operand.id) if isinstance(operand, Value) else None
        if isinstance(operand, Value) and node is not None and op_of(node).reduced(node):
            if op_of(node).reduction(node) != SUM:
                raise Stays
            self.sums[operand.id] = self.here
            return self.mark(operand, ())
        return super().way(operand)
