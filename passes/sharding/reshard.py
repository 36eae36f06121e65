"""From one layout to another: the sequence of collectives, for the cost tables and for the partitioned graph alike.

Each step is one collective, or none, of one value; a partitioned graph has these as nodes, and so has the compiled
program. Their order is fixed: what is replicated and will not be is cut first, so that least is sent; then pending
reductions, as a reduce-scatter where a dim of the result takes over mesh axes, as one all-reduce where none does; then
axes that move from one dim to another (all-to-all); then all-gathers. Of several dims the one that is sharded between
slices is scattered last and gathered first, so that least is sent over the slow network. Shards are contiguous, the
outermost mesh axis first: where an outer axis of a dim comes or goes, shards change places besides (permute). Bytes are
those of a group: before reducing, after gathering.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from ir.names import whole
from ir.types import SUM, SUMS, TensorType, item_size
from passes.hardware.network import SLOW_AXIS
from passes.sharding.mesh import DeviceMesh, IntArray, Mask
from passes.sharding.rules import Layout


@dataclass(frozen=True)
class Step:
    """One collective, to the layout `after`. Of an array of candidates, `mask` is 0 for those that do not make it."""

    kind: str
    name: str | None
    mask: Mask
    bytes: Mask
    after: Layout
    partial: Mask


def reshard_steps(
    type_: TensorType,
    source: Layout,
    pending: Sequence[Mask],
    target: Layout,
    mesh: DeviceMesh,
    reduction: str = SUM,
    computed: Mapping[str, Mask] | None = None,
) -> Iterator[Step]:
    """The steps that bring a value of `type_` from `source` to `target`.

    Args:
        pending: reductions still to be made, a mask of mesh axes for each reduced name.
        reduction: by what; only sums can be scattered.
        computed: the compute axes of each name, which are the outer ones of its dim (see `layout.with_layout`).
    """
    walk = _Walk(type_, source, pending, target, mesh, computed or {})
    moves, pends = _any(walk.leaving), _any(walk.partial)
    if moves:
        yield from walk.make_room()
    scattered = walk.scattered(reduction in SUMS) if pends else {}
    yield from walk.slices(scattered)
    if pends:
        yield from walk.scatters(scattered)
        yield from walk.sums()
        yield from walk.slices({})
    if moves:
        yield from walk.swaps()
        yield from walk.gathers()


class _Walk:
    """A value on its way: how its dims are sharded `now`, and the mesh axes over which it is still `partial`."""

    def __init__(
        self,
        type_: TensorType,
        source: Layout,
        pending: Sequence[Mask],
        target: Layout,
        mesh: DeviceMesh,
        computed: Mapping[str, Mask],
    ) -> None:
        self.names = list(dict.fromkeys(type_.names))
        self.now: Layout = {name: source.get(name, 0) for name in self.names}
        self.target: Layout = {name: target.get(name, 0) for name in self.names}
        self.partial: Mask = 0
        for mask in pending:
            self.partial = self.partial | mask
        self.mesh = mesh
        self.computed = computed
        self.sizes = {dim.name: dim.size for dim in reversed(type_.dims) if dim.name is not None}
        self.total = prod(type_.shape) * item_size(type_.dtype)
        self._local: Mask = None
        self.leaving: Mask = 0
        for name in self.names:
            self.leaving = self.leaving | (self.now[name] & ~self.target[name])

    def gain(self, name: str) -> Mask:
        """The mesh axes that a dim has still to get."""
        return self.target[name] & ~self.now[name]

    def local(self) -> Mask:
        """Bytes of one device's shard."""
        if self._local is None:
            self._local = self.total
            for name in self.names:
                self._local = self._local // self.mesh.group(self.now[name])
        return self._local

    def step(self, kind: str, name: str | None, mask: Mask, volume: Mask) -> Step:
        return Step(kind, name, mask, volume, self.now, self.partial)

    def place(self, name: str, mask: Mask) -> None:
        self.now = self.now | {name: mask}
        self._local = None

    def free(self, name: str) -> Mask:
        """Those of them over which every device has all that it needs."""
        return self.gain(name) & ~self.leaving & ~self.partial

    def make_room(self) -> Iterator[Step]:
        """Mesh axes leave a dim first where it has not room for those that come besides."""
        for name in self.names:
            if self.sizes[name] > 0 and self.sizes[name] % self.mesh.devices == 0:
                continue
            leaving, both = self.now[name] & ~self.target[name], self.now[name] | self.target[name]
            crowded = self.mesh.fitting(self.sizes[name])[both] != both
            yield from self.gather(name, leaving * crowded)

    def scattered(self, possible: bool) -> dict[str, Mask]:
        """For each name the mesh axes over which a pending sum is left sharded."""
        return {name: self.partial & self.gain(name) for name in self.names} if possible else {}

    def slices(self, scattered: Mapping[str, Mask]) -> Iterator[Step]:
        for name in self.names:
            # What is scattered is cut in the same step: in two, shards would be out of order.
            sliced = self.free(name) * (scattered.get(name, 0) == 0)
            if _any(sliced):
                disorder = self.disorder(name, self.now[name], sliced)
                self.place(name, self.now[name] | sliced)
                yield self.step("reshard", name, sliced, self.local())
                yield from self.permute(name, disorder)

    def across(self, mask: Mask) -> Mask:
        """A mask that has the axis between slices, 0 for one that has not: what crosses is to be the least, so it is
        scattered last and gathered first."""
        slow = self.mesh.mask([SLOW_AXIS]) if SLOW_AXIS in self.mesh.axes else 0
        return mask * (mask & slow != 0)

    def scatters(self, scattered: Mapping[str, Mask]) -> Iterator[Step]:
        in_turn = list(scattered.items())
        if SLOW_AXIS in self.mesh.axes and sum(_any(mask) for mask in scattered.values()) > 1:
            late = [(name, self.across(mask)) for name, mask in in_turn]
            in_turn = [(name, mask & ~across) for (name, mask), (_, across) in zip(in_turn, late, strict=True)] + late
        for name, mask in in_turn:
            if _any(mask):
                free = self.free(name) * (mask != 0)
                volume = self.local() // self.mesh.group(free)
                self.partial = self.partial & ~mask
                disorder = self.disorder(name, self.now[name], mask | free)
                self.place(name, self.now[name] | mask | free)
                yield self.step("reduce_scatter", name, mask, volume)
                yield from self.permute(name, disorder)

    def sums(self) -> Iterator[Step]:
        if _any(self.partial):
            mask, self.partial = self.partial, self.partial & 0
            yield self.step("all_reduce", None, mask, self.local())

    def swaps(self) -> Iterator[Step]:
        arriving = [name for name in self.names if _any(self.gain(name))] if _any(self.leaving) else []
        for name in arriving:
            for other in self.names:
                moved = self.gain(name) & self.now[other] & ~self.target[other]
                if _any(moved):
                    before, kept = self.local(), self.now[other] & ~moved
                    yield from self.permute(other, self.disorder(other, kept, moved))
                    disorder = self.disorder(name, self.now[name], moved)
                    self.place(name, self.now[name] | moved)
                    self.place(other, kept)
                    yield self.step("all_to_all", name, moved, before)
                    yield from self.permute(name, disorder)

    def gathers(self) -> Iterator[Step]:
        for name in self.names if SLOW_AXIS in self.mesh.axes else ():
            yield from self.gather(name, self.across(self.now[name] & ~self.target[name]))
        for name in self.names:
            yield from self.gather(name, self.now[name] & ~self.target[name])

    def gather(self, name: str, gathered: Mask) -> Iterator[Step]:
        if _any(gathered):
            kept = self.now[name] & ~gathered
            yield from self.permute(name, self.disorder(name, kept, gathered))
            self.place(name, kept)
            self.leaving = self.leaving & ~gathered
            yield self.step("all_gather", name, gathered, self.local())

    def permute(self, name: str, mask: Mask) -> Iterator[Step]:
        # Shards are contiguous: where an outer mesh axis comes or goes, they have to change places.
        if _any(mask):
            yield self.step("permute", name, mask, self.local())

    def disorder(self, name: str, kept: Mask, other: Mask) -> Mask:
        """The axes of a dim along which shards change places so that `other`, inside of `kept`, come in order."""
        inner = ~self.computed.get(name, 0) & (self.mesh.masks - 1)
        return _disordered(len(self.mesh.axes))[inner, kept, other]


@lru_cache
def _disordered(count: int) -> IntArray:
    """[inner, kept, other] → the mesh axes from the first to the last that have another place among `kept` and then
    `other` than in order. Inner ones are inside of all that are not; else an axis is inside of those before it."""
    masks = 1 << count
    found: IntArray = np.zeros((masks, masks, masks), dtype=np.int64)
    for inner, kept, other in product(range(masks), repeat=3):
        if kept & other or not kept or not other:
            continue
        there = [*_order(count, inner, kept), *_order(count, inner, other)]
        in_order = _order(count, inner, kept | other)
        differ = [n for n, (i, j) in enumerate(zip(there, in_order, strict=True)) if i != j]
        if differ:
            found[inner, kept, other] = sum({1 << i for i in there[differ[0] : differ[-1] + 1]})
    return found


def reordered(mesh: DeviceMesh, computed: Mapping[str, Mask], old: str, new: str, mask: Mask) -> Mask:
    """The mesh axes of a dim along which shards change places where it gets another name, whose compute axes, the outer
    ones, are others."""
    inner = [~np.asarray(computed.get(whole(name), 0)) & (mesh.masks - 1) for name in (old, new)]
    return _reordered(len(mesh.axes))[inner[0], inner[1], mask]


@lru_cache
def _reordered(count: int) -> IntArray:
    """[inner, inner of the new name, mask] → the mesh axes from the first to the last that have another place."""
    masks = 1 << count
    found: IntArray = np.zeros((masks, masks, masks), dtype=np.int64)
    for before, after, mask in product(range(masks), repeat=3):
        both = zip(*[_order(count, inner, mask) for inner in (before, after)], strict=True)
        differ = [n for n, (i, j) in enumerate(both) if i != j]
        if differ:
            found[before, after, mask] = sum(1 << i for i in _order(count, before, mask)[differ[0] : differ[-1] + 1])
    return found


def _order(count: int, inner: int, mask: int) -> list[int]:
    """The mesh axes of a mask, outermost first: those that are not inner ones, then these."""
    return sorted([i for i in range(count) if mask >> i & 1], key=lambda i: (inner >> i & 1, i))


def _any(mask: Mask) -> bool:
    """Whether there is anything to do, for the single plan or for any of the candidates."""
    return bool(mask.any()) if isinstance(mask, np.ndarray) else bool(mask)
