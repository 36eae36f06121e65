"""What gathers and scatters share: dims of an operand and dims of its indices, interleaved."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import jax.numpy as jnp
from jax.lax import GatherScatterMode

from ir import errors
from ir.graph import Node, Operand
from ir.ops.dtypes import is_integer
from ir.ops.op import Mismatch, Op, meeting
from ir.ops.rule import Broken, Piece, has, listed, must, same
from ir.shards import Shards
from ir.types import Dim

Pairs = Sequence[tuple[Dim, Dim]]


class Indexed(Op):
    """Dims in `along` are looked up by the last dim of the indices; `whole` lists those of which a part longer than one
    place is. Where operand and indices (or updates) disagree on a name, `batch` and `batch_with` list the two."""

    attributes = frozenset(("along", "whole", "batch", "batch_with"))
    always_computes = True
    picks_by_indices = True

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        last = len(node.inputs) - 1
        for a, b in zip(node.dims("batch"), node.dims("batch_with"), strict=False):
            first = 0 if a in node.inputs[0].type.dims else 1
            second = last if b in node.inputs[last].type.dims else 1
            yield from meeting(a, b, self.kind, (first, second))

    def lookups(self, node: Node) -> Iterator[tuple[str, Operand]]:
        if len(node.names("along")) == len(node.dims("along")) == 1:
            yield node.names("along")[0], node.inputs[1]


def looked_up(node: Node) -> tuple[tuple[Dim, ...], tuple[Dim, ...], Pairs]:
    """(`along`, `whole`, pairs of two names) of a node whose first operands are the array and the indices."""
    dims, indices = node.inputs[0].type.dims, node.inputs[1].type
    along = listed(node, "along", dims, "the operand")
    whole = listed(node, "whole", dims, "the operand", required=False)
    must(is_integer(indices.dtype), Piece("operand", 1), errors.operand_dtype(indices.dtype, "an integer"))
    fits = bool(indices.dims) and indices.dims[-1].size == len(along)
    must(
        fits,
        Piece("operand", 1),
        errors.operand_rank(str(indices), f"a last dim of {len(along)}, an index for each of `along`"),
    )
    everywhere = [dim for operand in node.inputs for dim in operand.type.dims]
    first = listed(node, "batch", everywhere, "the operands", required=False)
    second = listed(node, "batch_with", everywhere, "the operands", required=False)
    must(
        len(first) == len(second), Piece("attribute", key="batch_with"), errors.rule_needs("a dim for each of `batch`")
    )
    for a, b in zip(first, second, strict=True):
        must(a.size == b.size, Piece("attribute", key="batch_with"), errors.rule_needs(f"the size of {a} for {b}"))
    return along, whole, list(zip(first, second, strict=True))


def clips(mode: Any) -> bool:
    """Whether indices outside of an axis mean its nearest end."""
    return mode == GatherScatterMode.CLIP


def own_places(
    indices: Any, columns: Mapping[int, Dim], clipped: bool, shards: Shards
) -> tuple[Any, Any, Any | None]:
    """Indices into whole axes as indices into one device's shards of them.

    Args:
        indices: of whole axes, `[..., column]`.
        columns: which columns are of axes that are sharded.
        clipped: whether indices outside mean the nearest end.

    Returns:
        The indices, inside of the shard; which rows of them point into it; and which lie outside of a whole axis, None
        where that cannot be.
    """
    # Wide enough for the place of a shard, and signed, as places before it are negative.
    indices = indices.astype(jnp.promote_types(indices.dtype, jnp.int32))
    near: list[Any] = [indices[..., column] for column in range(indices.shape[-1])]
    here: Any = jnp.ones(indices.shape[:-1], bool)
    outside: Any = None
    for column, dim in columns.items():
        place, length = near[column], shards.length(dim)
        if clipped:
            place = jnp.clip(place, 0, dim.size - 1)
        else:
            beyond = (place < 0) | (place >= dim.size)
            outside = beyond if outside is None else outside | beyond
        place = place - jnp.asarray(shards.start(dim), place.dtype)
        here = here & (place >= 0) & (place < length)
        near[column] = jnp.clip(place, 0, length - 1)
    return jnp.stack(near, -1), here, outside


def interleaves(
    mixed: Sequence[Dim],
    windows: Sequence[Dim],
    batch: Sequence[Dim],
    along: Sequence[Dim],
    whole: Sequence[Dim],
    pairs: Pairs,
    picks: bool,
) -> bool:
    """Whether `mixed` is `batch`, in order, with `windows` between, in order.

    A window dim may be missing where it is looked up or is a batch dim too, and shorter where only a part is taken.
    Where the array is read (`picks`), one that is looked up place by place is missing.
    """

    def meets(one: Dim, other: Dim) -> bool:
        return same(one, other) or any(
            (same(a, one) and same(b, other)) or (same(a, other) and same(b, one)) for a, b in pairs
        )

    def may_go(dim: Dim) -> bool:
        return dim.size == 1 or has(along, dim) or any(meets(dim, other) for other in batch)

    @cache
    def fits(at: int, window: int, index: int) -> bool:
        if at == len(mixed):
            return index == len(batch) and all(may_go(dim) for dim in windows[window:])
        if index < len(batch) and meets(batch[index], mixed[at]) and fits(at + 1, window, index + 1):
            return True
        for skipped in range(window, len(windows)):
            dim = windows[skipped]
            cut = has(whole, dim) or (mixed[at].size == 1 and has(along, dim))
            shorter = mixed[at].size < dim.size and cut
            taken = picks and has(along, dim) and not has(whole, dim) and dim.size != 1
            if ((meets(dim, mixed[at]) and not taken) or shorter) and fits(at + 1, skipped + 1, index):
                return True
            if not may_go(dim):
                return False
        return False

    return fits(0, 0, 0)


def must_interleave(
    node: Node, piece: Piece, mixed: Sequence[Dim], along: Sequence[Dim], whole: Sequence[Dim], pairs: Pairs
) -> None:
    """Raises `Broken` where the result of a gather, or the updates of a scatter, are no such mixture."""
    windows, batch = node.inputs[0].type.dims, node.inputs[1].type.dims[:-1]
    if not interleaves(tuple(mixed), windows, batch, along, whole, pairs, picks=piece.part == "result"):
        kept = ", ".join(f"{dim.name or '_'}={dim.size}" for dim in windows if not has(along, dim))
        new = ", ".join(f"{dim.name or '_'}={dim.size}" for dim in batch)
        raise Broken(piece, errors.rule_needs(f"the dims of the indices, [{new}], and between them [{kept}]"))
