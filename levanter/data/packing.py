"""Sequences out of documents: which tokens a row has, and which of them know of each other.

    stream     windows of the running text; a token sees all that stands before it in its window, other documents too
    separate   the same windows, in which a token sees its own document only, and positions count from its start
    whole      rows of whole documents, as many as fit; a document longer than a row goes on in the next one

Where documents are apart, each begins with the end-of-text id as an input: the model learns to begin a text from
nothing, which is also how it is asked to. No target is a token of another document than its input, so what it has to
predict it can have learned from that document alone. A tokenizer without an end-of-text id has no such beginning; there
the first token of a document is not learned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from levanter.data.tokens import Tokens

STREAM, SEPARATE, WHOLE = "stream", "separate", "whole"
PACKINGS = (STREAM, SEPARATE, WHOLE)

IGNORED = -1
"""The target of a place that nothing is learned from; see `levanter.models.loss`."""

Batch = tuple[np.ndarray, ...]
"""Tokens and targets, and where documents are apart their segments: each int32 [batch, position].

A target is the token after, or negative; tokens of one segment are of one document.
"""


class Packing(ABC):
    """The rows of one side."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many there are."""

    @abstractmethod
    def stop(self, rows: int) -> int:
        """Up to which place of the side the first so many rows reach."""

    @abstractmethod
    def cut(self, rows: np.ndarray) -> Batch:
        """The rows that have these numbers."""


class Stream(Packing):
    """Windows of the running text."""

    def __init__(self, tokens: Tokens, seq_len: int) -> None:
        self._tokens, self._seq_len = tokens, seq_len

    @property
    def count(self) -> int:
        return max(0, len(self._tokens) - 1) // self._seq_len

    def stop(self, rows: int) -> int:
        return rows * self._seq_len + 1

    def cut(self, rows: np.ndarray) -> Batch:
        found = self._tokens.rows(rows * self._seq_len, self._seq_len + 1)
        return np.ascontiguousarray(found[:, :-1]), np.ascontiguousarray(found[:, 1:])


class Apart(Packing):
    """Rows in which documents are apart.

    Args:
        end_of_text: the id that a document begins with, as an input; None where the tokenizer has none.
    """

    def __init__(self, tokens: Tokens, seq_len: int, end_of_text: int | None) -> None:
        self._tokens, self._seq_len, self._end = tokens, seq_len, end_of_text

    def cut(self, rows: np.ndarray) -> Batch:
        tokens = np.full((len(rows), self._seq_len), self._end or 0, np.int32)
        targets = np.full_like(tokens, IGNORED)
        segments = np.zeros_like(tokens)
        for place, row in enumerate(rows):
            start, stop = self._stretch(int(row))
            self._fill(start, stop, tokens[place], targets[place], segments[place])
        return tokens, targets, segments

    @abstractmethod
    def _stretch(self, row: int) -> tuple[int, int]:
        """From where to where the targets of a row stand in the side."""

    def _fill(self, start: int, stop: int, tokens: np.ndarray, targets: np.ndarray, segments: np.ndarray) -> None:
        """Write a row whose targets are the ids from `start` to `stop`, each after its input."""
        length = stop - start
        before = max(0, start - 1)
        ids = self._tokens.rows(np.array([before]), stop - before)[0]
        tokens[start == 0 : length] = ids[: length - (start == 0)]
        targets[:length] = ids[-length:]
        ends = self._tokens.ends
        first, last = np.searchsorted(ends, [start, stop])
        begins = ends[first:last] - start  # where a target is the first token of a document
        if start == 0:
            begins = np.concatenate([[0], begins])
        if self._end is None:
            # There the input is the last token of the document before.
            targets[begins] = IGNORED
            begins = begins + 1
        else:
            tokens[begins] = self._end
        segments[begins[(begins > 0) & (begins < len(segments))]] += 1
        segments[length:][:1] += 1  # what fills the row up is of no document
        np.cumsum(segments, out=segments)


class SeparateWindows(Apart):
    """The windows of `Stream`, in which documents are apart."""

    @property
    def count(self) -> int:
        return max(0, len(self._tokens) - 1) // self._seq_len

    def stop(self, rows: int) -> int:
        return rows * self._seq_len + 1

    def _stretch(self, row: int) -> tuple[int, int]:
        first = row * self._seq_len + 1
        return first, first + self._seq_len


class WholeDocuments(Apart):
    """Rows of whole documents in the order of the corpus, each with as many as fit."""

    def __init__(
        self,
        tokens: Tokens,
        seq_len: int,
        end_of_text: int | None,
        ended: bool = True,
        before: Packing | None = None,
    ) -> None:
        super().__init__(tokens, seq_len, end_of_text)
        known = before._starts if isinstance(before, WholeDocuments) else np.zeros(1, np.int64)
        self._starts = _row_starts(tokens.ends, len(tokens), seq_len, ended, known)

    @property
    def count(self) -> int:
        return len(self._starts) - 1

    def stop(self, rows: int) -> int:
        return int(self._starts[rows])

    def _stretch(self, row: int) -> tuple[int, int]:
        return int(self._starts[row]), int(self._starts[row + 1])


def _row_starts(ends: np.ndarray, length: int, seq_len: int, ended: bool, known: np.ndarray) -> np.ndarray:
    """Where each row starts, and where the last one ends.

    Args:
        ended: whether no more tokens come; if some do, a row that they may be part of is not there yet.
        known: the first of them.
    """
    start = int(known[-1])
    starts = []
    while start < length and (ended or start + seq_len <= length):
        last = int(np.searchsorted(ends, start + seq_len, side="right")) - 1
        fits = last >= 0 and int(ends[last]) > start
        start = int(ends[last]) if fits else min(start + seq_len, length)
        starts.append(start)
    return np.concatenate([known, np.array(starts, np.int64)])


def packed(
    packing: str,
    tokens: Any,
    seq_len: int,
    end_of_text: int | None,
    ended: bool = True,
    before: Packing | None = None,
) -> Packing:
    """The rows of a side, as `data.packing` says.

    Args:
        ended: whether the tokens are all there are; if not, the rows are those that stay as they are when more come.
        before: the rows of fewer tokens of the side, where they are known.
    """
    if packing == STREAM:
        return Stream(tokens, seq_len)
    if packing == SEPARATE:
        return SeparateWindows(tokens, seq_len, end_of_text)
    return WholeDocuments(tokens, seq_len, end_of_text, ended, before)
