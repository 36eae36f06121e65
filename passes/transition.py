"""From one layout to another: the sequence of collectives, for the cost tables and for the partitioned graph alike.

The order is fixed, and each step is pinned when lowered, so that the compiler makes exactly these: sums that are due
first, one for each reduced name (a reduce-scatter where one dim of the result takes over all its mesh axes, an
all-reduce where not), then free slices, then axes that move from one dim to another (all-to-all), then all-gathers.
Where an outer mesh axis of a dim comes or goes, shards change places besides (permute). Bytes are those of a group:
before reducing, after gathering.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ir.types import TensorType, item_size
from passes.layout import Layout
from passes.mesh import DeviceMesh, Mask


@dataclass(frozen=True)
class Step:
    """One move, to the layout `after`. Of an array of candidates, `mask` is 0 for those that do not make it."""

    kind: str
    name: str | None
    mask: Mask
    bytes: Mask
    after: Layout
    partial: Mask


def transition(
    type_: TensorType,
    source: Layout,
    due: Sequence[Mask],
    target: Layout,
    mesh: DeviceMesh,
    cut_between: bool = True,
    computed: Mapping[str, Mask] | None = None,
) -> Iterator[Step]:
    """The steps that bring a value of `type_` from `source` to `target`.

    Args:
        due: sums still to be made, a mask of mesh axes for each reduced name.
        cut_between: whether the partitioner cuts the result after each of several sums, as it does for contractions.
            Elsewhere it makes all sums first, the first name's last, so that only that one can be a reduce-scatter.
        computed: the compute axes of each name, which are the outer ones of its dim (see `layout.with_layout`).
    """
    names = list(dict.fromkeys(type_.names))
    now = {name: source.get(name, 0) for name in names}
    target = {name: target.get(name, 0) for name in names}
    partial: Mask = 0
    for mask in due:
        partial = partial | mask
    total = prod(type_.shape) * item_size(type_.dtype)

    def local() -> Mask:
        size: Mask = total
        for name in names:
            size = size // mesh.group(now[name])
        return size

    def swapped(name: str, kept: Mask, other: Mask) -> Mask:
        """All axes of a dim where some of `other` lie outside some of `kept`, 0 where none does."""
        inner = ~(computed or {}).get(name, 0)
        disorder: Mask = 0
        for i in range(len(mesh.axes)):
            for j in range(len(mesh.axes)):
                outside = (inner >> j & 1) * len(mesh.axes) + j < (inner >> i & 1) * len(mesh.axes) + i
                disorder = disorder | (kept >> i & 1) * (other >> j & 1) * outside
        return (kept | other) * disorder

    def permuted(name: str, mask: Mask) -> Iterator[Step]:
        # Shards are contiguous: where an outer mesh axis comes or goes, they first have to change places.
        if _any(mask):
            yield Step("permute", name, mask, local(), now, partial)

    gains = {name: target[name] & ~now[name] for name in names}
    leaving: Mask = 0
    for name in names:
        leaving = leaving | (now[name] & ~target[name])
    earlier: Mask = 0
    for mask in due:
        scattered: Mask = 0
        for name in names:
            scattered = scattered | mask * ((mask & gains[name]) == mask)
        summed = mask & ~(scattered if cut_between else scattered * (earlier == 0))
        earlier = earlier | mask
        if _any(summed):
            partial = partial & ~summed
            yield Step("all_reduce", None, summed, local(), now, partial)
    for mask in due:
        for name in names:
            scattered = mask * (((mask & gains[name]) == mask) & ((mask & partial) == mask))
            if _any(scattered):
                before = local()
                partial = partial & ~scattered
                # Whatever else the dim gains for free comes in the same step: two would leave the shards out of order.
                taken = (scattered | (gains[name] & ~leaving & ~partial)) * (scattered != 0)
                disorder = swapped(name, now[name], taken)
                now = now | {name: now[name] | taken}
                yield Step("reduce_scatter", name, scattered, before, now, partial)
                yield from permuted(name, disorder)
    for name in names:
        sliced = target[name] & ~now[name] & ~leaving
        if _any(sliced):
            disorder = swapped(name, now[name], sliced)
            now = now | {name: now[name] | sliced}
            yield Step("reshard", name, sliced, local(), now, partial)
            yield from permuted(name, disorder)
    arriving = [name for name in names if _any(target[name] & ~now[name])] if _any(leaving) else []
    for name in arriving:
        for other in names:
            moved = target[name] & ~now[name] & now[other] & ~target[other]
            if _any(moved):
                before = local()
                disorder = swapped(name, now[name], moved) | swapped(other, now[other] & ~moved, moved)
                now = now | {name: now[name] | moved, other: now[other] & ~moved}
                yield Step("all_to_all", name, moved, before, now, partial)
                yield from permuted(name, disorder)
    for name in names:
        gathered = now[name] & ~target[name]
        if _any(gathered):
            yield from permuted(name, swapped(name, now[name] & ~gathered, gathered))
            now = now | {name: now[name] & ~gathered}
            yield Step("all_gather", name, gathered, local(), now, partial)


def _any(mask: Mask) -> bool:
    """Whether there is anything to do, for the single plan or for any of the candidates."""
    return bool(np.any(mask))
