"""cumulate: running sums, products and the like along one dim; pooling, which is the same over a window that slides
along the dims in `along`."""

from collections.abc import Sequence

from ir import errors
from ir.graph import Node, Operand
from ir.ops.op import Names, Op, params_of
from ir.ops.rule import Expected, Hole, Piece, Slot, has, like, listed, must, operands, same_shape
from ir.ops.spread import Spread, Walked, joined, nothing_pending, pending, places
from ir.types import Dim


class Cumulate(Op):
    """A running member keeps its operand's dims; a window makes those it slides along shorter or longer."""

    kind = "cumulate"
    attributes = frozenset(("along",))
    keeps_places = True
    placed_by_operands = True
    accumulates = True

    def results(self, node: Node) -> Sequence[Expected]:
        if node.fn.startswith("cum"):
            (operand,) = operands(node, 1, 1)
            along = listed(node, "along", operand.type.dims, "the operand")
            must(len(along) == 1, Piece("attribute", key="along"), errors.rule_needs("one dim"))
            return [like(operand.type)]
        must(node.fn.startswith("window"), Piece("op"), errors.rule_needs("a running member or a window"))
        operands(node, 1)
        if node.fn == "window_scatter_add":
            operands(node, 2, 2)
            return [self._back(node, node.inputs[1], node.inputs[0])]
        if node.fn == "window_scatter":
            operands(node, 2, 3)
            return [self._back(node, node.inputs[0], node.inputs[1])]
        # Initial values, which are scalars, follow the operands.
        full = [i for i, operand in enumerate(node.inputs) if operand.type.dims]
        must(bool(full) and bool(node.outputs), Piece("op"), errors.rule_needs("an operand with dims, and a result"))
        same_shape(node, full)
        dims = node.inputs[full[0]].type.dims
        along = listed(node, "along", dims, "the operand")
        out = node.outputs[0].type.dims
        must(len(out) == len(dims), Piece("result"), errors.rule_needs(f"{len(dims)} dims"))
        slid = _slid(dims, out, along)
        return [Expected((node.inputs[i].type.dtype,), slid) for i in full[: max(1, len(node.outputs))]]

    def spread(self, node: Node) -> Sequence[Spread]:
        """What is run along, or slid along, is whole. A running sum of a partial operand is partial."""
        full = [operand for operand in node.inputs if operand.type.dims]
        dims = (full[0] if full else node.inputs[0]).type.dims
        axis = params_of(node).get("axis")
        along = {int(axis)} if axis is not None else set(places(dims, node.dims("along")))
        for value in (*full, *node.outputs):
            along |= {i for i, (a, b) in enumerate(zip(dims, value.type.dims, strict=True)) if a.size != b.size}
        labels = [None if position in along else position for position in range(len(dims))]
        walked = Walked(node, [labels if operand.type.dims else [] for operand in node.inputs])
        if node.fn in ("cumsum", "window_sum"):
            due = pending(node, ((0,),))
        else:
            due = joined(node, node.fn[3:]) if node.fn in ("cummax", "cummin") else nothing_pending(node)
        return [walked.result(labels, due) for _ in node.outputs]

    def blocked(self, node: Node) -> Names:
        return node.names("along")

    def _back(self, node: Node, whole: Operand, sent: Operand) -> Expected:
        """What is sent back to where the maxima of the windows were has the dims of that."""
        along = listed(node, "along", whole.type.dims, "the operand")
        must(len(sent.type.dims) == len(whole.type.dims), Piece("op"), errors.rule_needs("operands of as many dims"))
        for a, b in zip(whole.type.dims, sent.type.dims, strict=True):
            must(a.size == b.size or has(along, a), Piece("op"), errors.rule_needs(f"the size of {a} for {b}"))
        return like(whole.type)


def _slid(dims: Sequence[Dim], out: Sequence[Dim], along: Sequence[Dim]) -> tuple[Slot, ...]:
    return tuple([Hole(b.size) if has(along, a) and a.size != b.size else a for a, b in zip(dims, out, strict=True)])
