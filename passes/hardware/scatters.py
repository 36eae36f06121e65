"""How an array may lie for the TPU compiler to reduce-scatter it inside of a slice: what it cuts are whole tiles.

Which layouts those are, and when an array has one, was seen of programs of one collective (`passes.hardware.sends`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np

from ir.types import item_size
from passes.hardware.memory import filled, filled_rows
from passes.hardware.pieces import IN_SQUARE, Pieces, comes_out, fills_up
from passes.sharding.mesh import IntArray

where: Any = np.where
"""Of numbers or of arrays."""
_UNKNOWN = -1
_MOST_WAYS = 1 << 18
"""To shard an array, of which it is noted whether they are in tiles."""


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
class Scatters:
    """What is reduce-scattered on a chip.

    Attributes:
        tile: rows and lanes of a tile, of elements of 32 bits.
        scratch: bytes on the chip that a collective goes through.
        planes: whether what is scattered over a square of four goes along both of its dims at once, as it does in
            slices of three dims; in those of two it goes around.
    """

    tile: tuple[int, int]
    scratch: int
    planes: bool

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


def _some(each: Scattered, squared: Any, shape: tuple[int, ...], which: IntArray) -> tuple[Scattered, Any]:
    """Some of the candidates alone, of which there are so many."""
    *sizes, shard, square = (np.broadcast_to(of, shape).reshape(-1)[which] for of in (*each.sizes, each.shard, squared))
    return replace(each, sizes=tuple(sizes), shard=shard), square
