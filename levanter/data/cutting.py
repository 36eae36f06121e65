"""Where a long text is cut, so that the ids of its pieces are the ids of the whole.

A place is right for a cut where the ids of what stands before it do not depend on what follows. That is tried out at
each place, on the text around it: the ids of the text up to the cut must begin the ids of the text on both sides. What
stands behind a cut is encoded with the stretch before it, whose ids are then dropped, since many tokenizers treat the
start of a text as something special (a normalizer puts `▁` before it, or strips its spaces). So nothing is assumed of
a normalizer but that it looks no further than `_CONTEXT` characters.

Places between words are tried first. Where a text has none that will do (one word without end), it is encoded from the
last cut on and cut where a token begins: whatever was merged lies on one side of it. For byte-pair encodings that is
exact on the left, and on the right up to `_CONTEXT` characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

CODE = 3
"""Part of the key of every cached token. To be raised by who changes where texts are cut (a test has the digest)."""

PIECE = 1 << 18
"""Characters of a piece: small enough that a few fill all cores in little memory."""
_CONTEXT = 1 << 10
_TRIES = 8
_REACH = 1 << 14
_WORD = 1 << 15

TEXT_WEIGHT = 1 << 8
"""How many characters the least of texts counts for, wherever memory is held down: it has a header, too."""

Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]
Places = Callable[[str], tuple[Sequence[int], Sequence[tuple[int, int]]]]


class Piece(NamedTuple):
    """A text to be encoded, the first `skip` ids of which belong to what stands before the piece."""

    text: str
    skip: int = 0
    own: int = 0
    """Where the piece itself starts in the text."""


@dataclass(frozen=True)
class Cutting:
    """How the texts of a tokenizer may be cut.

    Attributes:
        at: places that are likely to be right.
        trusted: whether they always are, and nothing need be tried nor be encoded before a piece.
        encode: the ids of texts, without special tokens.
        places: the ids of a text and for each the characters that it stands for; None where the tokenizer cannot tell.
    """

    at: re.Pattern[str]
    encode: Encode
    places: Places | None = None
    trusted: bool = False


def cut(text: str, cutting: Cutting) -> list[Piece]:
    """`text` in pieces: their own texts, one after another, are the text, and their own ids are its ids."""
    cutter = Cutter(cutting)
    return [*cutter.feed(text), *cutter.finish()]


class Cutter:
    """Cuts one text that comes in parts."""

    def __init__(self, cutting: Cutting) -> None:
        self._cutting = cutting
        self._before = ""  # what the next piece is encoded with
        self._skip = 0
        self._held: list[str] = []  # text without a cut so far
        self._length = 0
        self._next_try = PIECE + _REACH + _CONTEXT

    def feed(self, text: str) -> Iterator[Piece]:
        """The pieces that are whole once the text goes on with `text`."""
        for start in range(0, len(text), 4 * PIECE):
            yield from self._feed(text[start : start + 4 * PIECE])

    def _feed(self, text: str) -> Iterator[Piece]:
        self._held.append(text)
        self._length += len(text)
        if self._length < self._next_try:
            return
        rest = "".join(self._held)
        while len(rest) >= PIECE + _REACH + _CONTEXT:
            found = self._cut(rest)
            if found is None:
                # Nothing to be done but to wait for more; twice as much, so that trying stays linear.
                self._held, self._next_try = [rest], 2 * len(rest)
                return
            piece, rest = found
            yield piece
        self._held, self._length, self._next_try = [rest], len(rest), PIECE + _REACH + _CONTEXT

    def finish(self) -> Iterator[Piece]:
        """The last piece."""
        rest = "".join(self._held)
        if rest:
            yield self._piece(rest)

    def _piece(self, text: str) -> Piece:
        return Piece(self._before + text, self._skip, len(self._before))

    def _cut(self, text: str) -> tuple[Piece, str] | None:
        """The first piece of `text` and what is left of it."""
        if self._cutting.trusted:
            place = self._cutting.at.search(text, PIECE, PIECE + _REACH)
            if place is not None:
                return self._piece(text[: place.start()]), text[place.start() :]
        else:
            for tried, place in enumerate(self._cutting.at.finditer(text, PIECE, PIECE + _REACH)):
                if tried == _TRIES:
                    break
                at = place.start()
                left = self._left_of(text, at)
                of_left, of_both = self._cutting.encode([left, left + text[at : at + _CONTEXT]])
                if len(of_left) and list(of_both[: len(of_left)]) == list(of_left):
                    return self._parted(text, at, left, len(of_left))
        return self._between_tokens(text)

    def _left_of(self, text: str, at: int) -> str:
        """About `_CONTEXT` characters before a place, from the start of a word if there is one."""
        first = max(0, at - _CONTEXT)
        word = self._cutting.at.search(text, first, at - _CONTEXT // 2)
        return text[first if word is None else word.start() : at]

    def _parted(self, text: str, at: int, left: str, skip: int) -> tuple[Piece, str]:
        piece = self._piece(text[:at])
        self._before, self._skip = left, skip
        return piece, text[at:]

    def _between_tokens(self, text: str) -> tuple[Piece, str] | None:
        if self._cutting.places is None:
            return None
        before = len(self._before)
        ids, spans = self._cutting.places(self._before + text[: _WORD + _CONTEXT])
        starts = [start - before for start, _ in spans]
        # A token begins here, and what stands before it ends here: a letter may be several tokens.
        begins = [
            i for i in range(1, len(ids)) if spans[i - 1][1] == spans[i][0] and 0 < starts[i] <= _WORD and ids[i] >= 0
        ]
        for last in reversed(begins[-_TRIES:]):
            at = starts[last]
            lefts = [i for i in begins if at - _CONTEXT <= starts[i] < at - 8] or [i for i in begins if i < last]
            if not lefts:
                continue
            left = text[starts[lefts[0]] : at]
            own = list(ids[lefts[0] : last])
            # What follows must be the same behind the left side alone, as far as its end has no say in it.
            sure = [ids[i] for i in range(last, len(ids)) if spans[i][1] - before <= at + _CONTEXT // 2]
            of_left, of_both = self._cutting.encode([left, left + text[at : at + _CONTEXT]])
            expected = [*of_left, *sure]
            if list(of_left[-len(own) :]) == own and list(of_both[: len(expected)]) == expected:
                return self._parted(text, at, left, len(of_left))
        return None
