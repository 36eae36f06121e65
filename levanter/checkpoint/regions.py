"""Boxes of an array: the part that a device holds, the part that a file holds, and where two of them meet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Region:
    """The values of an array from `start` on, `shape` of them along each axis."""

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def slices(self, within: Region | None = None) -> tuple[slice, ...]:
        """Where it is in the array, or in a region that contains it."""
        origin = within.start if within is not None else (0,) * len(self.start)
        return tuple(
            slice(first - base, first - base + size)
            for first, base, size in zip(self.start, origin, self.shape, strict=True)
        )

    def overlap(self, other: Region) -> Region | None:
        """The values that both have; None where there are none. Two scalars overlap."""
        start = tuple(map(max, self.start, other.start))
        ends = (min(a + n, b + m) for a, n, b, m in zip(self.start, self.shape, other.start, other.shape, strict=True))
        shape = tuple(end - first for first, end in zip(start, ends, strict=True))
        return Region(start, shape) if all(size > 0 for size in shape) else None

    def offset_in(self, shape: Sequence[int]) -> int | None:
        """How many values of an array come before these in C order; None where they do not follow one another there."""
        first = next((axis for axis, size in enumerate(self.shape) if size != 1), len(self.shape))
        if self.shape[first + 1 :] != tuple(shape[first + 1 :]):
            return None
        return sum(start * math.prod(shape[axis + 1 :]) for axis, start in enumerate(self.start))

    def cut(self, itemsize: int, most_bytes: int) -> Iterator[Region]:
        """Parts of at most `most_bytes` (never less than one value), in C order; each is contiguous in the region."""
        if self.size == 0:
            return
        chunk = chunk_shape(self.shape, itemsize, most_bytes)
        for corner in itertools.product(*map(range, (0,) * len(chunk), self.shape, chunk)):
            start = tuple(map(sum, zip(self.start, corner, strict=True)))
            yield Region(start, tuple(map(min, chunk, (n - c for n, c in zip(self.shape, corner, strict=True)))))


def whole(shape: Sequence[int]) -> Region:
    """All of an array."""
    return Region((0,) * len(shape), tuple(shape))


def region_of(index: Sequence[slice], shape: Sequence[int]) -> Region:
    """The region that JAX names by a slice for each axis."""
    bounds = [part.indices(size)[:2] for part, size in zip(index, shape, strict=True)]
    return Region(tuple(first for first, _ in bounds), tuple(end - first for first, end in bounds))


def chunk_shape(shape: Sequence[int], itemsize: int, chunk_bytes: int) -> list[int]:
    """The largest chunk of at most `chunk_bytes` that is whole along the trailing axes (never less than one value)."""
    chunk = [max(1, size) for size in shape]
    for axis in range(len(chunk)):
        rest = int(np.prod(chunk[axis + 1 :], dtype=np.int64)) * itemsize
        chunk[axis] = max(1, min(chunk[axis], chunk_bytes // rest))
        if chunk[axis] * rest <= chunk_bytes:
            break
    return chunk
