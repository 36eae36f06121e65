"""What a chip's compiler sends in place of a collective of the partitioned program, where the program tells it.

The partitioned program is the same wherever it runs. Compiled for a TPU (`Chip.compiler`: libtpu), some of its
collectives become others:

- what only products read that take bfloat16, as those of float32 values do at JAX's default precision, is gathered in
  bfloat16 inside of a slice: the product rounds it anyway. Bfloat16 fits two rows of lanes into one of 32 bits: what
  lies in tiles of one row has none to fit with, and stays as it is. That is so where a device has one element of each
  dim but the one that is gathered and one of at most 128 behind it, and one of these stands between the two. A slice
  that a loop reads of a stack has such a dim of its own: of two dims longer than 1 it lies so where the shard takes
  least room with the gathered one along the lanes, which is then no whole rows of them, and the other is at most 128;
- a vector is gathered inside of a slice, or between slices alone, in shards of whole rows of a tile, of 128 lanes, and
  never scattered inside of one: in place of either it is reduced on every device, amid zeros or in full;
- a reduce-scatter inside of a slice cuts whole rows of the lanes of a tile; or its rows, in whole tiles, an even number
  of them, since half goes each way round, and on a square of four chips halves of those again, which in slices of three
  dims go in pieces that must come out even (`passes.hardware.pieces`); or a dim that no tile is of. An array that has
  no such layout but one whose tiles are half empty is reduced on every device. Where those of three dims or more are
  half empty in each of its layouts, one will do in which a shard takes less room than all of it in least room, or as
  much where rows of any dim but the last are cut. A sum of an array is laid out as that is, in least room. So is one of
  which a dim has one element on each device, and of that whole rows of the lanes are cut alone;
- over all of a slice of three dims, or of two alike of four chips or more, nothing is reduce-scattered: it is
  all-reduced, which is as many bytes of a collective that crosses the network twice;
- over several slices a gather between them that one inside of each follows, and a reduce-scatter inside that one
  between them follows, are one collective over both: no compiled program tells the two from one of a single dim;
- what is one number everywhere is not gathered: each device makes it where it is.

In which of several layouts an array lies is settled where the program is written for the compiler (`passes.for_tpu`),
which asks here for one in which it is scattered (`Sends.layout`).

Each of these was seen of programs of one collective, compiled for v4, v5e, v5p and v6e. The price of a plan, the
report and `--verify` all ask here. Of one plan masks and sizes are numbers, of many candidates arrays.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from math import prod
from typing import Any

import numpy as np

from ir.ops import OPS
from ir.types import item_size
from passes.hardware.assignment import SLOW_AXIS
from passes.hardware.memory import filled, filled_rows
from passes.hardware.pieces import IN_SQUARE, Pieces, comes_out, fills_up
from passes.hardware.torus import Torus
from passes.sharding.mesh import DeviceMesh, IntArray, Mask

REDUCE = next(kind for kind, op in OPS.items() if op.scattered)
"""What is sent in place of a gather or a reduce-scatter."""
HALVED = "the TPU compiler gathers in bf16 what only products read that take bf16 (JAX's default precision)"
VECTOR = (
    "the TPU compiler gathers vectors in whole rows of 128 lanes only and scatters none: here it reduces the whole "
    "value on every device"
)
WHOLE = (
    "the TPU compiler reduce-scatters nothing over a whole slice of three dims, or of two alike of four chips or more: "
    "here it reduces the whole value on every device"
)
TILES = (
    "the TPU compiler reduce-scatters whole tiles only, an even number of them: here it reduces the whole value on "
    "every device"
)
JOINT = "a collective inside of a slice and one between slices, one right after the other, are one over both"
UNIFORM = "each device makes what is one number everywhere, and nothing is sent of it"
where: Any = np.where
"""Of numbers or of arrays."""
_UNKNOWN = -1
_MOST_WAYS = 1 << 18
"""To shard an array, of which it is noted whether they are in tiles."""
_SQUARE = 4
"""Chips along both dims of a slice over which nothing is reduce-scattered."""


@dataclass(frozen=True)
class Among:
    """How each of many candidates shards what is scattered.

    Attributes:
        number: of the way in which each does.
        count: how many ways there are.
        of: what they are ways to shard.
    """

    number: Any
    count: int
    of: Hashable


@dataclass(frozen=True)
class Scattered:
    """An array that is scattered.

    Attributes:
        sizes: of its dims that are longer than 1, on one device, before.
        at: which of these is cut.
        shard: what is left of it.
        item: bytes of an element.
        among: which of all ways to shard it each of many candidates has.
        summed: whether it is a sum of an array, which no product makes.
    """

    sizes: tuple[Any, ...]
    at: int
    shard: Any
    item: int
    among: Among | None = None
    summed: bool = False


@dataclass(frozen=True)
class Printed:
    """A collective of the partitioned program.

    Attributes:
        bytes: of a group, before reducing, after gathering.
        vector: whether one dim at most of the result is longer than 1 on one device.
        shard: elements that one device has before; of a vector.
        halved: whether only products read the result that take it as bfloat16, and it is wider.
        scattered: of an array of two dims or more that is scattered.
    """

    kind: str
    mask: Mask
    bytes: Mask
    vector: Any = False
    shard: Any = 0
    halved: Any = False
    scattered: Scattered | None = None


@dataclass(frozen=True)
class Sends:
    """What is sent on a mesh.

    Attributes:
        tile: rows and lanes of a tile, of elements of 32 bits.
        slow: the mesh axis between slices, as a mask; 0 where there is none.
        scratch: bytes on the chip that a collective goes through.
        planes: whether what is scattered over a square of four goes along both of its dims at once, as it does in
            slices of three dims; in those of two it goes around.
    """

    tile: tuple[int, int]
    slow: int
    scratch: int
    planes: bool

    @classmethod
    def on(cls, mesh: DeviceMesh, tile: tuple[int, int], scratch: int, planes: bool) -> Sends:
        """On a mesh of chips that keep arrays in such tiles."""
        return cls(tile, mesh.mask([SLOW_AXIS]) if mesh.as_dict().get(SLOW_AXIS, 1) > 1 else 0, scratch, planes)

    def reduced(self, each: Printed, unscattered: Any, squared: Any) -> Any:
        """Whether an all-reduce of as many bytes is sent for it.

        Args:
            unscattered: whether nothing is reduce-scattered over its mesh axes (`unscattered`).
            squared: whether these are a square of four chips.
        """
        op = OPS[each.kind]
        if not (op.gathers or op.scatters):
            return False
        mask, inside = np.asarray(each.mask), self.inside(each.mask)
        vector = np.asarray(each.vector)
        if op.scatters:
            whole, cut = np.asarray(unscattered) > 0, inside & (mask != 0)
            if each.scattered is None:
                return whole | (vector & cut)
            asked = cut & ~whole & ~vector
            uneven = ~self.in_tiles(each.scattered, squared) if asked.any() else np.asarray(False)
            return whole | ((vector | uneven) & cut)
        between = (mask == self.slow) & (mask != 0)
        return vector & (inside | between) & (np.asarray(each.shard) % self.tile[1] != 0)

    def in_tiles(self, each: Scattered, squared: Any) -> Any:
        """Whether an array has a layout that is reduce-scattered; of many candidates, found once of each way to shard
        it.

        Args:
            squared: whether the mesh axes are a square of four chips.
        """
        if each.among is None:
            return self._in_tiles(each, squared)
        number = 2 * each.among.number + np.asarray(squared)
        if 2 * each.among.count > _MOST_WAYS:
            _, first, which = np.unique(number, return_index=True, return_inverse=True)
            return self._in_tiles(*_some(each, squared, number.shape, first))[which].reshape(number.shape)
        known = self._known.setdefault(each.among.of, np.full(2 * each.among.count, _UNKNOWN, np.int8))
        found = known[number]
        if (found == _UNKNOWN).any():
            known[number] = self._in_tiles(each, squared)
            found = known[number]
        return found > 0

    @cached_property
    def _known(self) -> dict[Hashable, Any]:
        return {}

    def _in_tiles(self, each: Scattered, squared: Any) -> Any:
        ways = self._ways_to_lie(each, squared)
        fits, room, elements = ways.fits, ways.room, ways.elements
        least = room.min(axis=0)
        if each.summed:
            # Of several layouts of least room a sum is cut in any, another array in that of the last dims.
            return (fits & (room == least)).any(axis=0)
        best = np.take_along_axis(fits, room.argmin(axis=0)[None], axis=0)[0]
        found = (fits & (room < 2 * elements)).any(axis=0)
        sizes = ways.sizes
        if len(sizes) > 2:
            whole_room = sizes[each.at] // each.shard * least
            smaller = (room < whole_room) | ((room == whole_room) & ways.of_rows & (each.at < len(sizes) - 1))
            found = found | ((fits & smaller).any(axis=0) & (least >= 2 * elements))
        return where(ways.lone, best, found)

    def _ways_to_lie(self, each: Scattered, squared: Any) -> _Ways:
        """The layouts of an array: every pair of a dim of lanes and one of rows; those of the last dims come first."""
        rows, lanes = self.tile
        sizes: Any = np.stack(np.broadcast_arrays(*each.sizes, each.shard, squared)[:-2]).astype(np.int64)
        squared, candidates = np.asarray(squared), (1,) * (sizes.ndim - 1)
        whole, elements = rows * item_size("float32") // each.item * (1 + squared), sizes.prod(axis=0)
        lane, row = _layouts(len(sizes))
        across, down = filled(sizes, lanes)[lane], filled_rows(sizes, rows)[row]
        others = elements // (sizes[lane] * sizes[row])
        lone = np.delete(sizes == 1, each.at, axis=0).any(axis=0)
        # An even number of whole tiles, in each of so many parts one after the other.
        tiles = each.shard // whole * (across // lanes) * others
        of_lanes, of_rows = ((at == each.at).reshape(-1, *candidates) for at in (lane, row))
        in_rows = (each.shard % whole == 0) & (tiles % 2 == 0) & ~lone
        asked = in_rows & of_rows & (squared > 0)
        if self.planes and asked.any():
            in_rows = in_rows & (~asked | self._comes_out(each, asked, across // lanes * others))
        fits = where(of_lanes, each.shard % lanes == 0, where(of_rows, in_rows, ~lone))
        return _Ways(sizes, elements, across * down * others, fits, of_rows, lone)

    def _comes_out(self, each: Scattered, asked: Any, beside: Any) -> Any:
        """Whether what is cut in rows over a square of four chips is reduce-scattered in pieces, where this is asked.

        Args:
            beside: tiles beside each other in one row of them.
        """
        shards, beside = (np.broadcast_to(of, asked.shape)[asked] for of in (each.shard, beside))
        pairs, which = np.unique(np.stack([shards, beside]), axis=1, return_inverse=True)
        even = [comes_out(self.pieces(each, int(shard), int(wide), IN_SQUARE, True)) for shard, wide in pairs.T]
        found = np.zeros(asked.shape, bool)
        found[asked] = np.array(even)[which.reshape(-1)]
        return found

    def pieces(self, each: Scattered, shard: int, beside: int, devices: int, square: bool) -> Pieces:
        """What of an array that is cut in rows is reduce-scattered at a time.

        Args:
            shard: rows of a shard.
            beside: tiles beside each other in one row of them.
            devices: among how many it is scattered.
        """
        rows, lanes = self.tile
        down = -(-shard // rows)
        size = devices * down * beside * rows * lanes * each.item
        return Pieces(down, beside, size, devices, square, self.scratch)

    def layout(self, each: Scattered, squared: bool) -> tuple[int, ...]:
        """The dims of an array of one plan from the outermost to that of the lanes, as it is scattered in least room;
        none where it is so in the order in which they stand, or in no other."""
        ways = self._ways_to_lie(each, squared)
        if ways.fits[0] or bool(ways.lone) or not ways.fits.any():
            return ()
        best = int(where(ways.fits, ways.room, ways.room.max() + 1).argmin())
        lane, row = (int(of[best]) for of in _layouts(len(each.sizes)))
        return (*(at for at in range(len(each.sizes)) if at not in (lane, row)), row, lane)

    def unfilled(self, each: Scattered, devices: int, squared: bool) -> tuple[tuple[int, ...], bool]:
        """How a matrix of one plan whose rows are cut is written so that no shard of it is filled up: the order of its
        dims from the outermost, and whether it is a stack of shards; neither where its rows do as they are."""
        rows, lanes = self.tile
        if len(each.sizes) != 2 or each.at != 0 or each.shard % rows or not self._ways_to_lie(each, squared).fits[0]:
            return (), False
        beside = -(-each.sizes[1] // lanes)
        square = squared and self.planes
        pieces = self.pieces(each, each.shard, beside, devices, square)
        if square:
            return ((1, 0), False) if fills_up(pieces) and each.shard % lanes == 0 else ((), False)
        stack = self.pieces(each, each.shard * beside, 1, devices, False)
        return (), not pieces.even(pieces.least) and stack.divides()

    def narrowed(self, each: Printed) -> Any:
        """Whether it is sent in bfloat16, if it is sent as it is."""
        return OPS[each.kind].gathers & np.asarray(each.halved) & (np.asarray(each.mask) != self.slow)

    def in_lone_rows(self, sizes: Sequence[Any], at: int) -> Any:
        """Whether an array lies in tiles of one row when a dim of it is gathered.

        Args:
            sizes: of its dims on one device, gathered.
            at: which of these is gathered.
        """
        found: Any = np.asarray(False)
        for last in range(at + 2, len(sizes)):
            alone: Any = (np.asarray(sizes[last]) > 1) & (np.asarray(sizes[last]) <= self.tile[1])
            for i, size in enumerate(sizes):
                alone = alone & (np.asarray(size) == 1 if i not in (at, last) else True)
            found = found | alone
        return found

    def in_lone_slices(self, sizes: Sequence[Any], at: int, shard: Any) -> Any:
        """Whether a slice that a loop reads of a stack lies in tiles of one row when a dim of it is gathered.

        Args:
            sizes: of its dims on one device, gathered.
            at: which of these is gathered.
            shard: what one device has of that before.
        """
        lanes = self.tile[1]
        found: Any = np.asarray(False)
        for other, size in enumerate(sizes):
            if other != at:
                alone: Any = (np.asarray(size) > 1) & (np.asarray(size) <= lanes)
                for i, each in enumerate(sizes):
                    alone = alone & (np.asarray(each) == 1 if i not in (at, other) else True)
                behind, along = filled(size, lanes) * shard, filled(shard, lanes) * size
                cut = (along < behind) | ((along == behind) & (at > other))
                found = found | (alone & cut & (np.asarray(shard) % lanes != 0))
        return found

    def inside(self, mask: Mask) -> Any:
        """Whether it stays inside of slices."""
        return np.asarray(mask) & self.slow == 0

    def within(self, mask: Mask) -> Any:
        """The mesh axes of a mask that are inside of slices."""
        return mask & ~self.slow

    def one(self, kind: str, before: Mask, mask: Mask) -> Any:
        """Whether a collective and one of the same kind right before it are one over both."""
        op = OPS[kind]
        if not (op.gathers or op.scatters) or not self.slow:
            return False
        first, second = before, mask
        if op.scatters:
            first, second = mask, before
        return (np.asarray(first) & self.slow != 0) & (np.asarray(second) & self.slow == 0) & (np.asarray(second) != 0)

    def of(self, each: Printed, unscattered: bool, squared: bool) -> tuple[str, int, str]:
        """Kind and bytes that are sent for a collective of one plan, and why it is something else than is printed."""
        volume = int(each.bytes)
        if self.reduced(each, unscattered, squared):
            whole = OPS[each.kind].scatters and unscattered
            return REDUCE, volume, WHOLE if whole else VECTOR if each.vector else TILES
        if self.narrowed(each):
            return each.kind, in_halves(volume), HALVED
        return each.kind, volume, ""


@dataclass(frozen=True)
class _Ways:
    """The layouts of an array, of one plan or of many candidates.

    Attributes:
        sizes: of its dims.
        elements: how many it has.
        room: that it takes in each layout, in elements.
        fits: whether it is reduce-scattered in each, if it lies so.
        of_rows: whether in each rows are cut.
        lone: whether a dim that is not cut has one element on each device.
    """

    sizes: Any
    elements: Any
    room: Any
    fits: Any
    of_rows: Any
    lone: Any


def _layouts(dims: int) -> tuple[IntArray, IntArray]:
    """Of each layout of so many dims that of the lanes and that of the rows."""
    lane, row = (np.array(of) for of in zip(*sorted(permutations(range(dims), 2), reverse=True), strict=True))
    return lane, row


def is_vector(sizes: Sequence[Any]) -> Any:
    """Whether one at most of the sizes of dims is more than 1."""
    return sum([np.asarray(size) > 1 for size in sizes], np.asarray(0)) <= 1


def _some(each: Scattered, squared: Any, shape: tuple[int, ...], which: IntArray) -> tuple[Scattered, Any]:
    """Some of the candidates alone, of which there are so many."""
    *sizes, shard, square = (np.broadcast_to(of, shape).reshape(-1)[which] for of in (*each.sizes, each.shard, squared))
    return replace(each, sizes=tuple(sizes), shard=shard), square


def in_halves(volume: Mask) -> Mask:
    """Bytes of so many of float32 in bfloat16."""
    return volume * item_size("bfloat16") // item_size("float32")


def all_reduces(form: Sequence[int]) -> bool:
    """Whether nothing is reduce-scattered over all of a slice of this form."""
    dims = [size for size in form if size > 1]
    return len(dims) == 3 or (len(dims) == 2 and dims[0] == dims[1] >= _SQUARE)


def unscattered(mesh: DeviceMesh, form: Sequence[int]) -> Any:
    """[mask] → whether nothing is reduce-scattered over the mesh axes of the mask, on slices of this form."""
    within = {axis: size for axis, size in mesh.as_dict().items() if size > 1}
    inside = mesh.mask([axis for axis in within if axis != SLOW_AXIS])
    if not (inside and all_reduces(form)):
        return np.zeros(mesh.masks, bool)
    return np.arange(mesh.masks) & mesh.mask(list(within)) == inside


def squared(mesh: DeviceMesh, torus: Torus | None) -> Any:
    """[mask] → whether the mesh axes of the mask are a square of four chips."""
    found = np.zeros(mesh.masks, bool)
    for mask in range(mesh.masks if torus is not None else 0):
        parts = [torus.parts[axis] for axis in range(len(mesh.axes)) if mask >> axis & 1] if torus is not None else []
        along = [prod(column) for column in zip(*parts, strict=True)]
        found[mask] = [size for size in along if size > 1] == [2, 2]
    return found
