"""A random order of many things that takes no memory and no set-up.

Shuffling a list of windows needs the list, and finding the window of step one million needs the whole shuffle. A keyed
permutation answers "which window stands at place i?" directly: a Feistel network is a bijection of the numbers below
a power of four, whatever its round function, and walking on until the result is below `size` makes it a bijection of
exactly those numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

_ROUNDS = 8


@dataclass(frozen=True)
class Permutation:
    """The permutation of 0 … size-1 that belongs to `key`. Equal keys give equal orders, on every machine, for ever."""

    size: int
    key: str

    def __post_init__(self) -> None:
        if not 0 < self.size < 1 << 62:
            raise ValueError(f"a permutation needs a size between 1 and 2**62, not {self.size}")

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """What stands at each of `places` (integers below `size`, one-dimensional); int64."""
        half = np.uint64(max(1, ((self.size - 1).bit_length() + 1) // 2))
        round_keys = np.frombuffer(hashlib.sha512(self.key.encode()).digest(), "<u8")[:_ROUNDS]
        found = _feistel(places.astype(np.uint64), half, round_keys)
        while (outside := found >= self.size).any():
            found[outside] = _feistel(found[outside], half, round_keys)
        return found.astype(np.int64)


def _feistel(values: np.ndarray, half: np.uint64, round_keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for round_key in round_keys:
        left, right = right, left ^ (_mix(right ^ round_key) & mask)
    return (left << half) | right


def _mix(values: np.ndarray) -> np.ndarray:
    """A 64-bit finalizer (that of splitmix64): every bit of the input moves every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
