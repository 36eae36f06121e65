"""In which pieces libtpu reduce-scatters an array that is cut in rows, and whether they come out even.

A reduce-scatter goes through memory on the chip, of which libtpu gives an operation 16 MiB, on a v6e 32 (its scoped
limit: with twice as much, pieces are twice as large). A piece that goes round a ring of n chips takes 1 + 4/n times its
room there, over a square of four three times; while one is sent the next is fetched, so the largest that is sent at a
time is the one of which this many fit:

- around a ring 2¼ · (1 + 4/n);
- over a square in a slice of three dims 4½, each half of it going along the other dim first.

The least number of such pieces, each smaller than that, must divide the rows of tiles of a shard and what is beside
them so that each piece, and on a square each half, is a number of tiles of 32 bits: of bfloat16 an even one. Where it
does not, libtpu fills up the rows, if that takes no more than one piece, and then shifts by permutes what it filled in;
or takes some more pieces, of more than half the size; or reduces the whole array on every device.

Seen of 80 programs of one reduce-scatter over a square of v5p, and of 50 around rings of 2, 4 and 8 chips.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, gcd

TILE = 8 * 128 * 4
"""Bytes of a tile of 32 bits."""
IN_SQUARE = 4
"""Chips in a square."""


@dataclass(frozen=True)
class Pieces:
    """An array that is cut in rows.

    Attributes:
        rows: of tiles, of one shard.
        beside: tiles in one such row, and in those of other dims.
        bytes: of the whole array, in tiles.
        devices: among how many it is scattered.
        square: whether these are a square of four in a slice of three dims, else a ring.
        scratch: bytes on the chip that a collective goes through.
    """

    rows: int
    beside: int
    bytes: int
    devices: int
    square: bool
    scratch: int

    @property
    def largest(self) -> float:
        """Bytes of the largest piece."""
        return self.scratch / (4.5 if self.square else 2.25 * (1 + 4 / self.devices))

    @property
    def least(self) -> int:
        """The least number of pieces."""
        return floor(self.bytes / self.largest) + 1

    @property
    def _step(self) -> int:
        """How many tiles of the array fill one of 32 bits."""
        return ceil(TILE * self.devices * self.rows * self.beside / self.bytes)

    def even(self, count: int) -> bool:
        """Whether so many pieces come out even."""
        rows = self.rows // 2 if self.square else self.rows
        if self.square and self.rows % 2:
            return False
        for down in _divisors(gcd(count, rows)):
            beside = count // down
            if self.beside % beside == 0 and rows // down * (self.beside // beside) % self._step == 0:
                return True
        return False

    def divides(self) -> bool:
        """Whether the least number of pieces comes out even, or one of more than half the size."""
        most = max(self.least + 1, ceil(2 * self.bytes / self.largest))
        return any(self.even(count) for count in range(self.least, most))

    def filled(self) -> int:
        """The rows of a shard when they are filled up for the least number of pieces."""
        ways = 2 if self.square else 1
        whole = self.least * ways * (1 if self.beside % self._step == 0 else self._step)
        return -(-self.rows // whole) * whole


@lru_cache(maxsize=1 << 12)
def comes_out(pieces: Pieces) -> bool:
    """Whether an array is reduce-scattered over a square, be it filled up."""
    return fills_up(pieces) or pieces.divides()


@lru_cache(maxsize=1 << 12)
def fills_up(pieces: Pieces) -> bool:
    """Whether the rows of a shard may be filled up."""
    if pieces.even(pieces.least):
        return False
    return (pieces.filled() - pieces.rows) * pieces.bytes <= pieces.largest * pieces.rows


@lru_cache(maxsize=1 << 12)
def _divisors(number: int) -> tuple[int, ...]:
    return tuple([each for each in range(1, number + 1) if number % each == 0])
