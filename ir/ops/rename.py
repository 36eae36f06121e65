"""rename: the one deliberate cut: the same dim in memory, another name from here on."""

from collections.abc import Sequence
from typing import Any

from ir import errors
from ir.graph import Node
from ir.ops.op import Op
from ir.ops.rule import Expected, Hole, Piece, fit_all, listed, must, operands
from ir.ops.spread import Spread, layout_of
from ir.shards import Shards


class Rename(Op):
    """`old` lists the operand's dims; the result says what they are called now."""

    kind = "rename"
    attributes = frozenset(("old",))
    fusible = True
    renames = True
    keeps_places = True
    stays_proportional = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        (operand,) = operands(node, 1, 1)
        dims = operand.type.dims
        old = listed(node, "old", dims, "the operand")
        rule = ", ".join(f"{dim.name or '_'}={dim.size}" for dim in dims)
        must(fit_all(dims, old), Piece("attribute", key="old"), errors.wrong_list("old", rule))
        return [Expected((operand.type.dtype,), tuple([Hole(dim.size) for dim in dims]))]

    def spread(self, node: Node) -> Sequence[Spread]:
        """The very same array."""
        return [layout_of(node.inputs[0].type)]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        return arrays
