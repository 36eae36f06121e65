"""collective: what the body of a `shard_map` sends over the mesh axes in `mesh`: `psum`, `all_gather`, `ppermute`, …"""

from collections.abc import Sequence
from typing import Any

from ir import errors
from ir.graph import Node
from ir.jax_api import lax
from ir.ops.op import Names, Op, all_names, params_of
from ir.ops.rule import Broken, Expected, Hole, Piece, Slot, fit, like, must, operands, words
from ir.shards import Shards
from ir.types import Dim

_KEEPING = ("psum", "pmax", "pmin", "unreduced", "ppermute", "pbroadcast")


class Collective(Op):
    """The user's word: passes leave it as it is. Sizes are those of one device's part."""

    kind = "collective"
    attributes = frozenset(("mesh",))

    def results(self, node: Node) -> Sequence[Expected]:
        words(node, "mesh", least=0)
        operands(node, 1)
        must(bool(node.outputs), Piece("op"), errors.rule_needs("a result"))
        if node.fn.startswith(_KEEPING) and "scatter" not in node.fn:
            return [like(operand.type) for operand in node.inputs[: len(node.outputs)]]
        if node.fn == "ragged_all_to_all":
            operands(node, 2)
            return [like(node.inputs[1].type)]
        type_, out = node.inputs[0].type, node.outputs[0].type.dims
        return [Expected((type_.dtype,), _regathered(type_.dims, out, node.fn == "all_to_all"))]

    def blocked(self, node: Node) -> Names:
        return all_names(node)

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Sums are the ring's own; what JAX tells apart by how values vary over a mesh is the same here."""
        axes = params_of(node).get("axes")
        reduced = {"psum_invariant": lax.psum, "unreduced_psum": lax.psum}.get(node.fn)
        if reduced is None or axes is None:
            return super().shadow(node, arrays, shards)
        return [reduced(array, tuple(axes)) for array in arrays]


def _regathered(dims: Sequence[Dim], out: Sequence[Dim], exchanged: bool) -> tuple[Slot, ...]:
    """The operand's dims, of which one or two are longer or shorter (or, `exchanged`, new); or one has come or gone."""
    if len(dims) == len(out):
        slots: list[Slot] = [a if a.size == b.size else Hole(b.size) for a, b in zip(dims, out, strict=True)]
        if exchanged:
            slots = [slot if fit(slot, dim) else Hole(dim.size) for slot, dim in zip(slots, out, strict=True)]
        return tuple(slots) if sum(isinstance(slot, Hole) for slot in slots) <= 2 else tuple(dims)
    longer, shorter = (dims, out) if len(dims) > len(out) else (out, dims)
    for at in range(len(longer)):
        rest = (*longer[:at], *longer[at + 1 :])
        if len(rest) == len(shorter) and all(fit(a, b) for a, b in zip(rest, shorter, strict=True)):
            return tuple(out)
    raise Broken(Piece("result"), errors.rule_needs("the operand's dims, but for one or two"))
