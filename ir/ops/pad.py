"""pad: padding around, or between, the elements of the dims in `along`."""

from collections.abc import Sequence

from ir import errors
from ir.graph import Node
from ir.ops.op import Names, Op, params_of
from ir.ops.rule import Expected, Piece, changed_dims, has, like, listed, must, operands, resized, same_dtype
from ir.ops.spread import Spread, Walked, pending, places


class Pad(Op):
    """The operand, and the scalar to pad it with."""

    kind = "pad"
    attributes = frozenset(("along",))
    fusible = True
    keeps_places = True
    pads = True

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

    def spread(self, node: Node) -> Sequence[Spread]:
        """What is padded is whole. The padding is added once, so a partial operand is padded with a partial value."""
        dims, out = node.inputs[0].type.dims, node.outputs[0].type.dims
        config = params_of(node).get("padding_config")
        if config is not None:
            padded = {position for position, edges in enumerate(config) if any(edges)}
        else:
            padded = set(places(dims, node.dims("along")))
        padded |= {position for position, (a, b) in enumerate(zip(dims, out, strict=True)) if a.size != b.size}
        labels = [None if position in padded else position for position in range(len(dims))]
        return [Walked(node, [labels, []]).result(labels, pending(node, ((0, 1),)))]

    def blocked(self, node: Node) -> Names:
        return node.names("along")
