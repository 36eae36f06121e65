"""sum_in_order: the sum over the first dim, in one order for any number of devices (`haliax.core.in_order`)."""

from collections.abc import Sequence
from typing import Any

from haliax.core.in_order import tree_sum
from ir import errors
from ir.graph import Node
from ir.ops.op import Names, Op
from ir.ops.rule import Expected, Piece, listed, must, operands
from ir.ops.spread import Spread, Walked, nothing_pending
from ir.shards import Shards
from ir.types import IN_ORDER


class SumInOrder(Op):
    """A tree over slices. Those of one device are a branch of it: what the devices have is added in the same way."""

    kind = "sum_in_order"
    attributes = frozenset(("over",))
    fuses_operands = True
    adds_in_order = True
    same_bits_on_shards = True

    def results(self, node: Node) -> Sequence[Expected]:
        (operand,) = operands(node, 1, 1)
        must(bool(operand.type.dims), Piece("operand"), errors.rule_needs("a dim to add up along"))
        over = listed(node, "over", operand.type.dims[:1], "the operand's first one")
        must(len(over) == 1, Piece("attribute", key="over"), errors.rule_needs("the operand's first dim"))
        return [Expected((operand.type.dtype,), operand.type.dims[1:])]

    def spread(self, node: Node) -> Sequence[Spread]:
        """A sum of shards is partial over what shards the dim, by a sum in order."""
        rank = len(node.inputs[0].type.dims)
        walked = Walked(node, [list(range(rank))])
        return [walked.result(range(1, rank), nothing_pending(node), {0}, IN_ORDER)]

    def reduced(self, node: Node) -> Names:
        return node.names("over")

    def reduction(self, node: Node) -> str:
        return IN_ORDER

    def targets(self, node: Node) -> Sequence[int | None]:
        return [None, *range(len(node.outputs[0].type.dims))]

    def sums(self, node: Node) -> bool:
        return True

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        return [tree_sum(arrays[0])]
