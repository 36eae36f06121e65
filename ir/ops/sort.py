"""sort: sorts all operands together along one dim, or takes the k largest."""

from collections.abc import Iterator, Sequence
from typing import Any

from jax import lax

from ir import errors
from ir.graph import Node
from ir.ops.op import Mismatch, Names, Op, params_of
from ir.ops.rule import Expected, Hole, Piece, Slot, fit_all, like, listed, must, operands, same, same_shape
from ir.ops.slice import side_by_side
from ir.ops.spread import Spread, Walked, nothing_pending, places
from ir.ring import touches
from ir.shards import Shards


class Sort(Op):
    """`sort` gives each operand back in order; `top_k` gives the largest and where they were."""

    kind = "sort"
    attributes = frozenset(("along",))
    meetings = {"sort": "a sort of {pairs}: what is sorted together must have the same axes"}
    keeps_places = True
    always_computes = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 1)
        dims = node.inputs[0].type.dims
        along = listed(node, "along", dims, "the first operand")
        must(len(along) == 1, Piece("attribute", key="along"), errors.rule_needs("one dim"))
        if node.fn == "sort":
            same_shape(node, range(len(node.inputs)))
            return [like(operand.type) for operand in node.inputs]
        operands(node, 1, 1)
        must(node.fn in ("top_k", "approx_top_k"), Piece("op"), errors.rule_needs("`sort` or `top_k`"))
        out = node.outputs[0].type.dims if node.outputs else ()
        at = [position for position, dim in enumerate(dims) if same(dim, along[0])]
        forms: list[tuple[Slot, ...]] = [
            tuple([Hole(None, at_most=dim.size) if i == position else dim for i, dim in enumerate(dims)])
            for position in at
        ]
        form = next((form for form in forms if fit_all(form, out)), forms[0])
        # Both results are of the same places.
        second = out if fit_all(form, out) else form
        return [Expected((node.inputs[0].type.dtype,), form), Expected(("int32", "uint32", "int64"), second)]

    def spread(self, node: Node) -> Sequence[Spread]:
        """What is sorted is whole; all else is done row by row."""
        dims, out = node.inputs[0].type.dims, node.outputs[0].type.dims
        params = params_of(node)
        at = params.get(
            "dimension", params.get("operand_dimension", params.get("axis", params.get("reduction_dimension")))
        )
        along = {int(at) % len(dims)} if at is not None else set(places(dims, node.dims("along")))
        along |= {position for position, (a, b) in enumerate(zip(dims, out, strict=True)) if a.size != b.size}
        labels = [None if position in along else position for position in range(len(dims))]
        walked, due = Walked(node, [labels] * len(node.inputs)), nothing_pending(node)
        return [walked.result(labels, due) for _ in node.outputs]

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        if node.fn == "sort":
            yield from side_by_side(node, self.kind)

    def blocked(self, node: Node) -> Names:
        return node.names("along")

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """In the order of unsigned integers."""
        if node.fn != "approx_top_k" or not touches(node):
            return super().shadow(node, arrays, shards)
        params, (operand,) = params_of(node), arrays
        axis = params["reduction_dimension"] % operand.ndim
        found, places = lax.top_k(operand if params["is_max_k"] else ~operand, params["k"], axis=axis)
        return [found if params["is_max_k"] else ~found, places]
