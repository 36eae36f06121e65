"""cumulate: running sums, products and the like along one dim; pooling, which is the same over a window that slides
along the dims in `along`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ir import errors
from ir.graph import Node, Operand
from ir.jax_api import lax
from ir.ops.op import Names, Op, params_of
from ir.ops.rule import Expected, Hole, Piece, Slot, has, like, listed, must, operands, same_shape
from ir.ops.spread import Spread, Walked, joined, nothing_pending, pending, places
from ir.ring import mix, mixed, to_ring, touches
from ir.shards import Shards
from ir.types import Dim

_OWN = ("cumsum", "cumprod", "cummax", "cummin", "window_sum", "window_max", "window_min")
"""Members that mean the same for the ring's numbers."""


class Cumulate(Op):
    """A running member keeps its operand's dims; a window makes those it slides along shorter or longer."""

    kind = "cumulate"
    attributes = frozenset(("along",))
    keeps_places = True
    placed_by_operands = True
    accumulates = True
    pads = True

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
        if node.fn in ("cumsum", "window_sum") and len(node.inputs) == 1:
            due = pending(node, ((0,),))
        else:
            due = joined(node, node.fn[3:]) if node.fn in ("cummax", "cummin") else nothing_pending(node)
        return [walked.result(labels, due) for _ in node.outputs]

    def blocked(self, node: Node) -> Names:
        return node.names("along")

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Running sums and maxima are the ring's own. The others see the whole of the dims along which they run, so
        that any function of these will do; one that is linear stays so."""
        if not touches(node) or node.fn in _OWN:
            return super().shadow(node, arrays, shards)
        params, count = params_of(node), len(node.outputs)
        if node.fn == "cumlogsumexp":
            sums = lax.cumsum(mix(arrays[0], "exp"), axis=params["axis"], reverse=params["reverse"])
            return [mix(sums, "log")]
        if node.fn == "window_select":
            return [_windows(arrays[0] * mix(arrays[1], "select"), params)]
        if node.fn == "window":
            sums = [_windows(mix(to_ring(array), "window"), params) for array in arrays[:count]]
            return [mixed([total, first], "window") for total, first in zip(sums, arrays[count:], strict=True)]
        source, operand = arrays[:2] if node.fn == "window_scatter_add" else (arrays[1], arrays[0])
        along = [axis for axis, size in enumerate(params["window_dimensions"]) if size > 1]
        along += [axis for axis, (a, b) in enumerate(zip(source.shape, operand.shape, strict=True)) if a != b]
        return [mix(operand, "select") * source.sum(axis=tuple(sorted(set(along))), keepdims=True, dtype=source.dtype)]

    def _back(self, node: Node, whole: Operand, sent: Operand) -> Expected:
        """What is sent back to where the maxima of the windows were has the dims of that."""
        along = listed(node, "along", whole.type.dims, "the operand")
        must(len(sent.type.dims) == len(whole.type.dims), Piece("op"), errors.rule_needs("operands of as many dims"))
        for a, b in zip(whole.type.dims, sent.type.dims, strict=True):
            must(a.size == b.size or has(along, a), Piece("op"), errors.rule_needs(f"the size of {a} for {b}"))
        return like(whole.type)


def _slid(dims: Sequence[Dim], out: Sequence[Dim], along: Sequence[Dim]) -> tuple[Slot, ...]:
    return tuple([Hole(b.size) if has(along, a) and a.size != b.size else a for a, b in zip(dims, out, strict=True)])


def _windows(x: Any, params: Mapping[str, Any]) -> Any:
    """The sums of windows that slide over `x`."""
    keys = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    given = {key: params[key] for key in keys if key in params}
    return lax.reduce_window(x, x.dtype.type(0), lax.add, **given)
