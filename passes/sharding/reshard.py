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
from passes.sharding.mesh import DeviceMesh, Mask
from passes.sharding.rules import Layout


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
    walk = _Walk(type_, source, target, mesh, computed or {})
    yield from walk.sums(due, cut_between)
    yield from walk.slices()
    yield from walk.swaps()
    yield from walk.gathers()


class _Walk:
    """A value on its way: where its dims lie `now`, and the mesh axes over which sums are still `partial`."""

    def __init__(
        self, type_: TensorType, source: Layout, target: Layout, mesh: DeviceMesh, computed: Mapping[str, Mask]
    ) -> None:
        self.names = list(dict.fromkeys(type_.names))
        self.now: Layout = {name: source.get(name, 0) for name in self.names}
        self.target: Layout = {name: target.get(name, 0) for name in self.names}
        self.partial: Mask = 0
        self.mesh = mesh
        self.computed = computed
        self.total = prod(type_.shape) * item_size(type_.dtype)
        self.leaving: Mask = 0
        for name in self.names:
            self.leaving = self.leaving | (self.now[name] & ~self.target[name])

    def gain(self, name: str) -> Mask:
        """The mesh axes that a dim has still to get."""
        return self.target[name] & ~self.now[name]

    def local(self) -> Mask:
        """Bytes of one device's shard."""
        size: Mask = self.total
        for name in self.names:
            size = size // self.mesh.group(self.now[name])
        return size

    def step(self, kind: str, name: str | None, mask: Mask, volume: Mask) -> Step:
        return Step(kind, name, mask, volume, self.now, self.partial)

    def place(self, name: str, mask: Mask) -> None:
        self.now = self.now | {name: mask}

    def sums(self, due: Sequence[Mask], cut_between: bool) -> Iterator[Step]:
        for mask in due:
            self.partial = self.partial | mask
        gains = {name: self.gain(name) for name in self.names}
        earlier: Mask = 0
        for mask in due:
            scattered: Mask = 0
            for name in self.names:
                scattered = scattered | mask * ((mask & gains[name]) == mask)
            summed = mask & ~(scattered if cut_between else scattered * (earlier == 0))
            earlier = earlier | mask
            if _any(summed):
                self.partial = self.partial & ~summed
                yield self.step("all_reduce", None, summed, self.local())
        for mask in due:
            for name in self.names:
                scattered = mask * (((mask & gains[name]) == mask) & ((mask & self.partial) == mask))
                if _any(scattered):
                    yield from self.scatter(name, scattered, gains[name])

    def scatter(self, name: str, scattered: Mask, gain: Mask) -> Iterator[Step]:
        before = self.local()
        self.partial = self.partial & ~scattered
        # Whatever else the dim gains for free comes in the same step: two would leave the shards out of order.
        taken = (scattered | (gain & ~self.leaving & ~self.partial)) * (scattered != 0)
        disorder = self.disorder(name, self.now[name], taken)
        self.place(name, self.now[name] | taken)
        yield self.step("reduce_scatter", name, scattered, before)
        yield from self.permute(name, disorder)

    def slices(self) -> Iterator[Step]:
        for name in self.names:
            sliced = self.gain(name) & ~self.leaving
            if _any(sliced):
                disorder = self.disorder(name, self.now[name], sliced)
                self.place(name, self.now[name] | sliced)
                yield self.step("reshard", name, sliced, self.local())
                yield from self.permute(name, disorder)

    def swaps(self) -> Iterator[Step]:
        arriving = [name for name in self.names if _any(self.gain(name))] if _any(self.leaving) else []
        for name in arriving:
            for other in self.names:
                moved = self.gain(name) & self.now[other] & ~self.target[other]
                if _any(moved):
                    before, kept = self.local(), self.now[other] & ~moved
                    disorder = self.disorder(name, self.now[name], moved) | self.disorder(other, kept, moved)
                    self.place(name, self.now[name] | moved)
                    self.place(other, kept)
                    yield self.step("all_to_all", name, moved, before)
                    yield from self.permute(name, disorder)

    def gathers(self) -> Iterator[Step]:
        for name in self.names:
            gathered = self.now[name] & ~self.target[name]
            if _any(gathered):
                kept = self.now[name] & ~gathered
                yield from self.permute(name, self.disorder(name, kept, gathered))
                self.place(name, kept)
                yield self.step("all_gather", name, gathered, self.local())

    def permute(self, name: str, mask: Mask) -> Iterator[Step]:
        # Shards are contiguous: where an outer mesh axis comes or goes, they have to change places.
        if _any(mask):
            yield self.step("permute", name, mask, self.local())

    def disorder(self, name: str, kept: Mask, other: Mask) -> Mask:
        """All axes of a dim where some of `other` lie outside some of `kept`, 0 where none does."""
        count = len(self.mesh.axes)
        inner = ~self.computed.get(name, 0)
        found: Mask = 0
        for i in range(count):
            for j in range(count):
                outside = (inner >> j & 1) * count + j < (inner >> i & 1) * count + i
                found = found | (kept >> i & 1) * (other >> j & 1) * outside
        return (kept | other) * found


def _any(mask: Mask) -> bool:
    """Whether there is anything to do, for the single plan or for any of the candidates."""
    return bool(np.any(mask))
