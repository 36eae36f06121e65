"""pad: padding around, or between, the elements of the dims in `along`."""

from collections.abc import Sequence

from ir import errors
from ir.graph import Node
from ir.ops.op import Names, Op
from ir.ops.rule import Expected, Piece, changed_dims, has, like, listed, must, operands, resized, same_dtype


class Pad(Op):
    """The operand, and the scalar to pad it with."""

    kind = "pad"
    attributes = frozenset(("along",))
    fusible = True
    keeps_places = True

    def results(self, node: Node) -> Sequence[Expected]:
        operand, filling = operands(node, 2, 2)
        same_dtype(node, (0, 1))
        must(not filling.type.dims, Piece("operand", 1), errors.operand_rank(str(filling.type), "a scalar"))
        dims, out = operand.type.dims, node.outputs[0].type.dims if node.outputs else ()
        along = listed(node, "along", dims, "the operand")
        if len(out) != len(dims):
            return [like(operand.type)]
        for dim in changed_dims(dims, out):
            must(has(along, dim), Piece("result"), errors.rule_needs(f"the size of {dim}, which `along` does not list"))
        return [Expected((operand.type.dtype,), resized(dims, out))]

    def blocked(self, node: Node) -> Names:
        return node.names("along")
