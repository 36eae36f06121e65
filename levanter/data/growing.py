"""The tokens of a corpus while they are made: as many as there are, and all of them at the end.

What is there never changes, only more comes. A document counts from when all of it is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from levanter.data import chunks
from levanter.data.cache import Cache
from levanter.data.chunks import Chunk
from levanter.data.corpus import HELDOUT, TRAIN
from levanter.data.published import Follower
from levanter.data.tokens import SpannedTokens, Spans
from levanter.data.views import SIDES, View, is_heldout


class Growing:
    """The tokens of both sides.

    Args:
        cache: what is asked of the cache.
        view: all of them, where they are there.
        check: raises what keeps more from coming.

    Attributes:
        view: all tokens, once they are there.
        source: what the corpus is called.
    """

    def __init__(
        self,
        cache: Cache,
        heldout_fraction: float,
        view: View | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.view = view
        self.source = cache.source
        self._cache, self._fraction, self._check = cache, heldout_fraction, check
        self._list = Follower(cache.list_path, cache.source)
        self._firsts = _Numbers()
        self._firsts.add(np.zeros(1, np.int64))
        self._document = 0  # where the document starts that goes on
        self._sides = {side: _Side() for side in SIDES}
        self._hashed = 0, 0, hashlib.sha256()

    @property
    def complete(self) -> bool:
        """Whether no more comes."""
        return self.view is not None

    def look(self) -> bool:
        """Take in what has come since the last time; whether something has.

        Raises:
            UserError: nothing has, and no more can come.
        """
        known = len(self._firsts)
        self._list.read()
        for number in range(known - 1, len(self._list.chunks)):
            self._take(self._chunk(number))
        if self._list.view is not None:
            self.view = self._cache.view_of(self._list.view)
        if self.complete or known < len(self._firsts):
            return True
        self._check()
        return False

    def tokens(self, side: str) -> SpannedTokens:
        """The ids of a side that are there."""
        if self.view is not None:
            return self.view.tokens(side)
        return SpannedTokens(self._sides[side].spans, self._firsts.values, lambda number: self._chunk(number).ids)

    def documents(self, position: int | None) -> str:
        """A hash of all documents that begin before a position of the corpus, or of all that there are."""
        done, first, digest = self._hashed
        if position is not None and position <= first:
            done, first, digest = 0, 0, hashlib.sha256()
        for number in range(done, len(self._keys)):
            chunk = self._chunk(number)
            count = len(chunk.ends)
            if position is not None:
                count = int(np.searchsorted(chunk.ends + first, position)) + 1
            if count > len(chunk.ends) or position is None:
                _hash(digest, chunk, len(chunk.ends))
                first += len(chunk.ids)
                self._hashed = number + 1, first, digest.copy()
            else:
                digest = digest.copy()
                _hash(digest, chunk, count)
                break
        return digest.hexdigest()

    @property
    def _keys(self) -> list[str]:
        return self._list.chunks if self.view is None else self.view.chunk_keys

    def _chunk(self, number: int) -> Chunk:
        return chunks.read(chunks.path_of(self._cache.chunk_folder, self._keys[number]))

    def _take(self, chunk: Chunk) -> None:
        first = int(self._firsts.values[-1])
        ends = chunk.ends + first
        if len(ends):
            starts = np.concatenate([[self._document], ends[:-1]])
            heldout = is_heldout(chunk, self._fraction)
            self._sides[TRAIN].add(starts[~heldout], ends[~heldout])
            self._sides[HELDOUT].add(starts[heldout], ends[heldout])
            self._document = int(ends[-1])
        self._firsts.add(np.array([first + len(chunk.ids)]))


def _hash(digest: Any, chunk: Chunk, documents: int) -> None:
    """Add the first so many documents of a chunk to a hash."""
    for part in (chunk.numbers, chunk.named):
        digest.update(part[:documents].tobytes())


class _Side:
    """The stretches of a side so far."""

    def __init__(self) -> None:
        self._starts, self._sources, self._ends = _Numbers(), _Numbers(), _Numbers()
        self._starts.add(np.zeros(1, np.int64))
        self._stop = -1  # of the last stretch, in the corpus

    def add(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """Documents from `starts` to `stops` in the corpus, in order."""
        some = stops > starts
        starts, stops = starts[some], stops[some]
        if not len(starts):
            return
        length = int(self._starts.values[-1])
        ends = np.cumsum(stops - starts) + length
        self._ends.add(ends)
        # What follows without a gap is one stretch.
        fresh = starts != np.concatenate([[self._stop], stops[:-1]])
        places = np.concatenate([[length], ends[:-1]])[fresh]
        self._starts.drop_last()
        self._starts.add(np.append(places, ends[-1]))
        self._sources.add(starts[fresh])
        self._stop = int(stops[-1])

    @property
    def spans(self) -> Spans:
        return Spans(self._starts.values.copy(), self._sources.values, self._ends.values, np.zeros(0, np.int64))


class _Numbers:
    """Whole numbers, to which more are added; int64."""

    def __init__(self) -> None:
        self._room = np.empty(1024, np.int64)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def values(self) -> np.ndarray:
        """Those that are there; they stay as they are when more are added, unless the last is dropped."""
        return self._room[: self._length]

    def add(self, values: np.ndarray) -> None:
        needed = self._length + len(values)
        if needed > len(self._room):
            room = np.empty(2 * needed, np.int64)
            room[: self._length] = self.values
            self._room = room
        self._room[self._length : needed] = values
        self._length = needed

    def drop_last(self) -> None:
        self._length -= 1
