"""What gathers and scatters share: dims of an operand and dims of its indices, interleaved."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jax.lax import GatherScatterMode

from ir import errors
from ir.graph import Node, Operand
from ir.jax_api import jnp
from ir.ops.dtypes import is_integer
from ir.ops.op import Mismatch, Names, Op, meeting, names_of, params_of
from ir.ops.rule import Broken, Piece, has, listed, must, same
from ir.ops.spread import places
from ir.ring import touches
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

    def by_row(self, node: Node) -> bool:
        dims = node.inputs[0].type.dims
        return bool(dims) and all([not same(dims[-1], dim) for dim in node.dims("along")])

    def shuffled(self, node: Node) -> Names:
        """Axes that there are indices along as well: an index of one shard may point into any other."""
        rows = names_of(node.value_inputs[1:2])
        return tuple(name for name in node.names("along") if name in rows)

    def lookups(self, node: Node) -> Iterator[tuple[str, Operand]]:
        if len(node.names("along")) == len(node.dims("along")) == 1:
            yield node.names("along")[0], node.inputs[1]

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Indices that the step promises to be in range are brought there: some are made from real numbers, and are
        anything in the ring."""
        promised = params_of(node).get("mode") == GatherScatterMode.PROMISE_IN_BOUNDS
        if promised and touches(node):
            sizes = [node.inputs[0].type.dims[axis].size for axis in self.looked_up_axes(node)]
            lengths = jnp.asarray([max(1, size) for size in sizes], arrays[1].dtype)
            arrays = [arrays[0], arrays[1] % lengths, *arrays[2:]]
        return super().shadow(node, arrays, shards)

    @abstractmethod
    def looked_up_axes(self, node: Node) -> Sequence[int]:
        """The dims of the first operand that the last dim of the indices is of, in its order."""


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


def own_places(indices: Any, columns: Mapping[int, Dim], clipped: bool, shards: Shards) -> tuple[Any, Any, Any | None]:
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


@dataclass(frozen=True)
class Places:
    """The dims of a lookup by number: the operand's are numbered from 0, those that only the indices have follow.

    Attributes:
        indices: a number for each dim of the indices; None for the last, which lists the indices themselves.
        mixed: for each dim of what is picked, or written: the dim that it is; None for a part of one.
        looked_up: dims of the operand of which single places are looked up.
        cut: dims of the operand of which a part is taken, or that say nothing of themselves.
    """

    indices: tuple[int | None, ...]
    mixed: tuple[int | None, ...]
    looked_up: frozenset[int]
    cut: frozenset[int]


def by_numbers(node: Node, mixed: Operand) -> Places:
    """The places of a gather, or scatter, that remembers its primitive."""
    params = params_of(node)
    numbers = params["dimension_numbers"]
    dims, indices = node.inputs[0].type.dims, node.inputs[1].type.dims
    if "slice_sizes" in params:
        offset, gone, start = numbers.offset_dims, numbers.collapsed_slice_dims, numbers.start_index_map
        twins = zip(numbers.start_indices_batching_dims, numbers.operand_batching_dims, strict=True)
    else:
        offset, gone = numbers.update_window_dims, numbers.inserted_window_dims
        start = numbers.scatter_dims_to_operand_dims
        twins = zip(numbers.scatter_indices_batching_dims, numbers.operand_batching_dims, strict=True)
    paired = {int(b): int(axis) for b, axis in twins}  # after `vmap` they are NumPy's
    own = tuple(paired.get(b, len(dims) + b) for b in range(len(indices) - 1))
    windows = iter([axis for axis in range(len(dims)) if axis not in gone and axis not in paired.values()])
    batch = iter(own)
    cut: set[int] = {axis for axis in gone if axis not in start}
    made: list[int | None] = []
    for position, dim in enumerate(mixed.type.dims):
        if position not in offset:
            made.append(next(batch))
            continue
        axis = next(windows)
        whole = dim.size == dims[axis].size and axis not in start
        single = dim.size == 1 and axis in start
        cut |= set() if whole or single else {axis}
        made.append(axis if whole else None)
    return Places((*own, None), tuple(made), frozenset(start) - cut, frozenset(cut))


def by_names(node: Node, mixed: Operand) -> Places:
    """The same of a node that was read from text."""
    dims, indices = node.inputs[0].type.dims, node.inputs[1].type.dims[:-1]
    along, whole, pairs = looked_up(node)
    start = places(dims, along)
    cut = {position for position in start if has(whole, dims[position])}

    def meets(one: Dim, other: Dim) -> bool:
        return (one.name is not None and same(one, other)) or any(
            (same(a, one) and same(b, other)) or (same(a, other) and same(b, one)) for a, b in pairs
        )

    window_names = [dim for dim in mixed.type.dims]
    own: list[int] = []
    for b, dim in enumerate(indices):
        twin = next((a for a, each in enumerate(dims) if a not in start and a not in own and meets(each, dim)), None)
        shown = sum(meets(each, dim) for each in window_names)
        own.append(twin if twin is not None and shown < 2 else len(dims) + b)
    free_batch = list(range(len(indices)))
    free_windows = [a for a in range(len(dims)) if a not in own and (a not in start or a in cut)]
    made: list[int | None] = []
    for dim in mixed.type.dims:
        b = next((b for b in free_batch if meets(indices[b], dim)), None)
        a = next((a for a in free_windows if a not in cut and meets(dims[a], dim)), None)
        if b is not None:
            free_batch.remove(b)
            made.append(own[b])
        elif a is not None:
            free_windows.remove(a)
            made.append(a)
        else:
            made.append(None)
    return Places((*own, None), tuple(made), frozenset(start) - cut, frozenset(cut))


def places_of(node: Node, mixed: Operand) -> Places:
    """Which dim is which, in the operand, the indices, and what is picked or written (`mixed`)."""
    return by_numbers(node, mixed) if "dimension_numbers" in params_of(node) else by_names(node, mixed)
