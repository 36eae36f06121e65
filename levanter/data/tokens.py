"""The tokens of one side of a corpus, wherever they lie: one long row of ids that is read in stretches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

_OPEN_CHUNKS = 512
_BLOCK = 1 << 20


class Tokens(Protocol):
    """Ids in a row.

    `ends` is int64: for each document the place behind its last id, in order.
    """

    @property
    def ends(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def rows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Stretches of `length` ids from the places `starts`: int32 [len(starts), length]."""
        ...

    def counts(self, size: int) -> np.ndarray:
        """How often each id below `size` is there: int64 [size]."""
        ...


@dataclass(frozen=True)
class ArrayTokens:
    """Ids in one array, of one document unless `ends` says otherwise."""

    ids: np.ndarray
    ends: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.ids, dtype)

    def rows(self, starts: np.ndarray, length: int) -> np.ndarray:
        return self.ids[starts[:, None] + np.arange(length)].astype(np.int32)

    def counts(self, size: int) -> np.ndarray:
        return np.bincount(self.ids, minlength=size)


@dataclass(frozen=True)
class Spans:
    """Which stretches of a corpus a side is made of.

    Attributes:
        starts: int64 [spans + 1], where each stretch starts in the side, and where the last one ends.
        sources: int64 [spans], where each starts in the corpus.
        ends: int64 [documents], where each document ends in the side.
        counts: int64, how often each id is there; empty where that is not known.
    """

    starts: np.ndarray
    sources: np.ndarray
    ends: np.ndarray
    counts: np.ndarray


class SpannedTokens:
    """The ids of one side, in the chunks of its corpus.

    Args:
        spans: which stretches of the corpus it is made of.
        firsts: int64 [chunks + 1], where each chunk starts in the corpus, and where the last one ends.
        ids_of: the ids of a chunk by its number.
        open_chunks: how many are kept mapped.
    """

    def __init__(
        self,
        spans: Spans,
        firsts: np.ndarray,
        ids_of: Callable[[int], np.ndarray],
        open_chunks: int = _OPEN_CHUNKS,
    ) -> None:
        self._spans = spans
        self._firsts = firsts
        self._ids_of = ids_of
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()
        self._open_chunks = open_chunks

    @property
    def ends(self) -> np.ndarray:
        return self._spans.ends

    def stands_at(self, place: int) -> int:
        """Where in the corpus the id at a place of the side stands."""
        spans = self._spans
        span = int(np.searchsorted(spans.starts, place, side="right")) - 1
        return int(spans.sources[span]) + place - int(spans.starts[span])

    def first(self, length: int) -> SpannedTokens:
        """The first so many ids, as tokens of their own."""
        spans = self._spans
        last = int(np.searchsorted(spans.starts[:-1], length))
        starts = np.append(spans.starts[:last], length)
        ends = spans.ends[: int(np.searchsorted(spans.ends, length, side="right"))]
        found = Spans(starts, spans.sources[:last], ends, np.zeros(0, np.int64))
        return SpannedTokens(found, self._firsts, self._ids_of)

    def before(self, position: int) -> SpannedTokens:
        """What of the side stands before a position of the corpus where none of its documents goes on."""
        spans = self._spans
        return self.first(int(spans.starts[int(np.searchsorted(spans.sources, position))]))

    def __len__(self) -> int:
        return int(self._spans.starts[-1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.rows(np.zeros(1, np.int64), len(self))[0].astype(dtype or np.int32)

    def rows(self, starts: np.ndarray, length: int) -> np.ndarray:
        found = np.empty((len(starts), length), np.int32)
        for row, start in zip(found, starts, strict=True):
            filled = 0
            for part in self._parts(int(start), length):
                row[filled : filled + len(part)] = part
                filled += len(part)
            if filled < length:
                raise IndexError(f"no ids from {start} to {start + length}: there are {len(self)}")
        return found

    def counts(self, size: int) -> np.ndarray:
        known = self._spans.counts if len(self._spans.counts) or not len(self) else self.counted()
        return np.concatenate([known, np.zeros(max(0, size - len(known)), np.int64)])

    def counted(self) -> np.ndarray:
        """`Spans.counts`, from the ids themselves; little of them is held at once."""
        once = SpannedTokens(self._spans, self._firsts, self._ids_of, open_chunks=1)
        total = np.zeros(0, np.int64)
        for start in range(0, len(self), _BLOCK):
            ids = np.concatenate(list(once._parts(start, min(_BLOCK, len(self) - start))))
            found = np.bincount(ids, minlength=len(total))
            found[: len(total)] += total
            total = found
        return total

    def _parts(self, start: int, length: int) -> Iterator[np.ndarray]:
        """The ids from `start` on, in stretches that lie together."""
        spans, firsts = self._spans, self._firsts
        span = int(np.searchsorted(spans.starts, start, side="right")) - 1
        while length > 0 and span < len(spans.sources):
            inside = start - int(spans.starts[span])
            source = int(spans.sources[span]) + inside
            left = min(length, int(spans.starts[span + 1]) - start)
            chunk = int(np.searchsorted(firsts, source, side="right")) - 1
            place = source - int(firsts[chunk])
            part = self._chunk(chunk)[place : place + left]
            yield part
            start, length = start + len(part), length - len(part)
            span += start == int(spans.starts[span + 1])

    def _chunk(self, number: int) -> np.ndarray:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        self._open[number] = ids = self._ids_of(number)
        if len(self._open) > self._open_chunks:
            self._open.popitem(last=False)
        return ids
