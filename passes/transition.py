"""From one layout to another: the sequence of collectives, the same for the cost tables and for the partitioned graph.

The order is fixed, and each step is pinned when lowered, so that the compiler makes exactly these: sums that are due
first, one for each reduced name (a reduce-scatter where one dim of the result takes over all its mesh axes, an
all-reduce where not), then free slices, then axes that move from one dim to another (all-to-all), then all-gathers.
Bytes are those of a group: before reducing, after gathering.
"""

from collections.abc import Iterator, Sequence
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
) -> Iterator[Step]:
    """The steps that bring a value of `type_` from `source` to `target`.

    Args:
        due: sums still to be made, a mask of mesh axes for each reduced name.
        cut_between: whether the partitioner cuts the result after each of several sums, as it does for contractions.
            Elsewhere it makes all sums first, the first name's last, so that only that one can be a reduce-scatter.
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
                now = now | {name: now[name] | taken}
                yield Step("reduce_scatter", name, scattered, before, now, partial)
    for name in names:
        sliced = target[name] & ~now[name] & ~leaving
        if _any(sliced):
            now = now | {name: now[name] | sliced}
            yield Step("reshard", name, sliced, local(), now, partial)
    arriving = [name for name in names if _any(target[name] & ~now[name])] if _any(leaving) else []
    for name in arriving:
        for other in names:
            moved = target[name] & ~now[name] & now[other] & ~target[other]
            if _any(moved):
                before = local()
                now = now | {name: now[name] | moved, other: now[other] & ~moved}
                yield Step("all_to_all", name, moved, before, now, partial)
    for name in names:
        gathered = now[name] & ~target[name]
        if _any(gathered):
            now = now | {name: now[name] & ~gathered}
            yield Step("all_gather", name, gathered, local(), now, partial)


def _any(mask: Mask) -> bool:
    """Whether there is anything to do, for the single plan or for any of the candidates."""
    return bool(np.any(mask))
