"""square_sum: the sum of all squares, in one order for any number of devices (`haliax.core.in_order`)."""

from collections.abc import Sequence
from typing import Any

from haliax.core.in_order import squares_in_pieces
from ir import errors
from ir.graph import Node
from ir.ops.op import Names, Op
from ir.ops.rule import Expected, Piece, count, listed, must, operands
from ir.ops.spread import Spread, Walked, nothing_pending, places
from ir.shards import Shards
from ir.types import IN_ORDER


class SquareSum(Op):
    """The operand is cut into pieces along one dim, which may be sharded: a device has a whole number of them."""

    kind = "square_sum"
    attributes = frozenset(("along", "pieces"))
    fuses_operands = True
    placed_by_operands = True
    adds_in_order = True
    same_bits_on_shards = True

    def results(self, node: Node) -> Sequence[Expected]:
        (operand,) = operands(node, 1, 1)
        along = listed(node, "along", operand.type.dims, "the operand", required=False)
        pieces = count(node, "pieces")
        fits = len(along) <= 1 and all(dim.size % pieces == 0 for dim in along)
        must(fits, Piece("attribute", key="along"), errors.rule_needs(f"one dim that {pieces} pieces divide"))
        return [Expected((operand.type.dtype,), ())]

    def spread(self, node: Node) -> Sequence[Spread]:
        """A sum of whole pieces is partial by a sum in order; all other dims are whole."""
        rank, along = len(node.inputs[0].type.dims), self._along(node)
        others = {position for position in range(rank) if position != along}
        return [Walked(node, [list(range(rank))], others).result((), nothing_pending(node), range(rank), IN_ORDER)]

    def reduced(self, node: Node) -> Names:
        return node.names("along")

    def blocked(self, node: Node) -> Names:
        along = self._along(node)
        dims = enumerate(node.inputs[0].type.dims)
        return tuple([dim.name for position, dim in dims if position != along and dim.name is not None])

    def reduction(self, node: Node) -> str:
        return IN_ORDER

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        along, pieces = self._along(node), node.count("pieces")
        if along is not None:
            pieces //= shards.count(node.inputs[0].type.dims[along].mesh)
        return [squares_in_pieces(arrays[0], along, pieces)]

    def _along(self, node: Node) -> int | None:
        return next(iter(places(node.inputs[0].type.dims, node.dims("along"))), None)
