"""How the memory of a chip takes arrays: in tiles or as they are, and how much of a step stays on the chip.

A TPU keeps every array in tiles of 8 × 128 elements (the sublanes and lanes of its registers): two dims are filled
up to whole tiles, and XLA takes those that waste least, but for what a kernel reads or writes as it is: there it is the
last two. Its vector memory is managed by the compiler, which keeps the temporaries of a step there as long as they fit.
Sizes: `TpuInfo` of `jax.experimental.pallas.tpu`, less the 16 MiB that XLA sets aside for the operation at hand; a chip
whose two cores work as one has no vector memory that both see, so there temporaries are in HBM, and the vector memories
have copies of what is read next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

ROWS_AT_HAND = 2**22
"""Bytes that an array which kernels read row by row may have to stay on the chip: of stacks compiled for v5p those of
2 MiB did in most programs, of 8 MiB some and of 16 MiB none."""


@dataclass(frozen=True)
class ChipMemory:
    """Attributes:
    on_chip: bytes of temporaries that stay on the chip.
    tile: rows and lanes of a tile; (1, 1) where arrays are kept as they are.
    copies: bytes of copies that each of several cores has of what is in the memory of the device, where no temporaries
        stay on the chip.
    scratch: bytes on the chip that the compiler gives an operation at hand, as a collective.
    kernel: the library's kernel that computes attention without an array of scores: `splash`, `cudnn`, or none.
    """

    on_chip: int = 0
    tile: tuple[int, int] = (1, 1)
    kernel: str = ""
    copies: int = 0
    scratch: int = 16 * 2**20

    @property
    def in_tiles(self) -> bool:
        """Whether arrays are kept in tiles."""
        return self.tile != (1, 1)

    @property
    def into_products(self) -> bool:
        """Whether products compute elementwise chains that they read on the way: what keeps arrays in tiles is a matrix
        unit that XLA writes the products of."""
        return self.in_tiles

    @property
    def halves_products(self) -> bool:
        """Whether products take float32 as bfloat16 unless a precision is asked for, so that what only they read is
        gathered as that."""
        return self.in_tiles

    @property
    def reduces_at_once(self) -> bool:
        """Whether gradients that are stored over all devices wait for one another in full: over a whole slice a TPU
        makes no reduce-scatter, it reduces them on every device, all at once."""
        return self.in_tiles

    @property
    def copies_rows(self) -> bool:
        """Whether a copy of a table, of which a lookup reads row by row, takes memory of the device: where temporaries
        stay on the chip it is there for one operation, and nothing is sent away for it."""
        return self.in_tiles and not self.on_chip

    @property
    def record(self) -> int:
        """Bytes of the record that XLA keeps in HBM of each copy to or from the chip, and of each operation of several
        results: a table of 512 bytes, which takes a block of 16 KiB."""
        return 2**14 if self.in_tiles else 0

    @property
    def most_spared(self) -> int:
        """The most bytes that temporaries spare the memory of the device."""
        return self.on_chip + (self.on_chip + self.copies) // 2

    def off_chip(self, waiting: Any, stacked: Any, looped: Any, paired: Any = 0, reduced: Any = 0) -> Any:
        """The bytes of temporaries that are in the memory of the device: nothing as long as all fit on the chip. What
        loops stack they read and write in every trip, so as much of it stays as has room beside the rest. Where the
        rest does not fit by itself, what waits for its readers is sent away, and the chip is left to the body of the
        loop, whose temporaries each trip makes and reads anew: of these is sent away what still has no room.

        Args:
            waiting: bytes of what is neither stacked nor in a loop; one number, or an array of candidates.
            stacked: bytes of what loops stack.
            looped: bytes of what a trip of a loop makes for itself.
            paired, reduced: bytes of gradients that wait for the update (`gradients_off_chip`).
        """
        fits: Any = np.asarray(waiting + looped) <= self.on_chip
        room: Any = np.maximum(self.on_chip - waiting - looped, 0)
        left: Any = np.maximum(room - 3 * np.asarray(paired) - 2 * np.asarray(reduced), 0)
        beyond: Any = np.maximum(stacked - left, 0)
        sent: Any = waiting + stacked + np.maximum(looped - self.on_chip, 0)
        return beyond * fits + sent * ~fits + self.gradients_off_chip(waiting, looped, paired, reduced)

    def gradients_off_chip(self, waiting: Any, looped: Any, paired: Any, reduced: Any) -> Any:
        """The bytes in the memory of the device of gradients that wait for the update, of parameters that are computed
        with as they are stored.

        All such gradients are reduced as one, and what is reduced is beside what is not: where both have no room on the
        chip, what is reduced is in memory. Parameters are read again and again, and where an update reads nothing else
        of the state they stay on the chip till then and come first (`paired`; with moments an update has these and the
        parameter from memory: `reduced`). A parameter that stays leaves its place in memory to gradients until it is
        updated: the one that is read first is given the place that is written last, and so on, so half of them find a
        place that is written after they were read.
        """
        room: Any = np.maximum(self.on_chip - waiting - looped, 0)
        here: Any = np.clip(3 * np.asarray(paired) - room, 0, paired)
        here = here - np.minimum(here, self.left_to_gradients(paired))
        left: Any = np.maximum(room - 3 * np.asarray(paired), 0)
        return here + np.clip(2 * np.asarray(reduced) - left, 0, reduced)

    def left_to_gradients(self, paired: Any) -> Any:
        """The bytes of gradients that find a place which parameters on the chip have left."""
        return np.minimum(paired, self.on_chip + self.copies) // 2

    def bytes(self, lengths: Sequence[Any], item: int, by_rows: bool = False) -> Any:
        """The memory of an array.

        Args:
            lengths: of its dims; each one number, or an array of candidates.
            item: bytes of an element.
            by_rows: whether its last dim is innermost, as kernels have it.
        """
        elements: Any = item
        for length in lengths:
            elements = elements * length
        if not self.in_tiles or not lengths:
            return elements
        return self.room(elements, [self.filled_up(length) for length in lengths], by_rows)

    def filled_up(self, length: Any) -> tuple[Any, Any]:
        """By how much a dim is filled up where it is that of the lanes, and where it is that of the rows."""
        whole = np.maximum(length, 1)
        return filled(length, self.tile[1]) / whole, filled_rows(length, self.tile[0]) / whole

    def room(self, size: Any, filled_up: Sequence[tuple[Any, Any]], by_rows: bool = False) -> Any:
        """The memory of an array of so many bytes in tiles, of whose dims each is filled up by so much."""
        rows = [down for _, down in filled_up]
        lanes = range(len(rows) - 1 if by_rows else 0, len(rows))
        least = [filled_up[i][0] * _least([*rows[:i], *rows[i + 1 :]]) for i in lanes]
        return np.rint(size * _least(least)).astype(np.int64)

    def in_rows(self, bytes: Any, length: Any) -> Any:
        """Bytes of an array whose last dim has this length, where that is innermost: it fills lanes of its own."""
        return bytes // np.maximum(length, 1) * filled(length, self.tile[1])


PLAIN_MEMORY = ChipMemory()
"""Arrays as they are, all of them in the memory of the device."""


def _least(values: Sequence[Any]) -> Any:
    least = values[0] if values else 1.0
    for value in values[1:]:
        least = np.minimum(least, value)
    return least


def filled(length: Any, whole: int) -> Any:
    """A length filled up to whole ones."""
    return -(-length // whole) * whole


def filled_rows(length: Any, rows: int) -> Any:
    """A dim of fewer rows than a tile has is filled up to a power of two."""
    few = _few(rows)
    if np.ndim(length) == 0:
        return int(few[length]) if length < rows else filled(length, rows)
    return np.where(length < rows, few[np.minimum(length, rows - 1)], filled(length, rows))


@lru_cache
def _few(rows: int) -> IntArray:
    """[length] → of lengths that are less than some rows the powers of two that they are filled up to."""
    return np.array([1 << max(each - 1, 0).bit_length() for each in range(rows)])
