"""Which text is held out: a rule on each document alone.

A document is held out when the SHA-256 of its text, read as a fraction between 0 and 1, is below `heldout_fraction`. So
the choice depends on nothing but the text: not on a seed, the order of the files or what else is in the corpus, and two
copies of one text are always on the same side.

A corpus of a few documents, or of very unequal ones, cannot be divided fairly that way. Where the held-out side would
get less than half or more than twice its share of the characters, the last `heldout_fraction` of the tokens of *every*
document is held out instead. A source that names its own held-out text is taken at its word.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple

from levanter.data.corpus import HELDOUT, TRAIN, Corpus, Document, Stretch, stretches

BY_SOURCE = "source"
BY_DOCUMENT = "documents"
BY_TAIL = "tails"

UNNAMED, NAMED_TRAIN, NAMED_HELDOUT = 0, 1, 2
"""What a source says of the side of a document, as a number."""
_NAMED = {None: UNNAMED, TRAIN: NAMED_TRAIN, HELDOUT: NAMED_HELDOUT}


@dataclass(frozen=True)
class Survey:
    """What one reading of a corpus tells: a hash of all its text, how to split it, and how much there is."""

    sha256: str
    rule: str
    characters: int


class Surveyed(NamedTuple):
    """What the whole text of a document tells.

    Attributes:
        digest: its SHA-256. The first 8 bytes decide its side where its source does not.
        named: what its source says of its side, as a number.
        characters: how long it is.
    """

    digest: bytes
    named: int
    characters: int


class Surveyor:
    """Reads a corpus stretch by stretch."""

    def __init__(self, heldout_fraction: float) -> None:
        self._fraction = heldout_fraction
        self._threshold = threshold(heldout_fraction)
        self._digest = hashlib.sha256()
        self._characters = {TRAIN: 0, HELDOUT: 0}
        self._named_by_source = False
        self._document = None  # the digest of a document of several stretches, while it goes on
        self._length = 0

    def read(self, part: Stretch) -> Surveyed | None:
        """What is known of the document that ends with `part`; None where it goes on."""
        content = part.text.encode("utf-8", "surrogatepass")
        if self._document is None:
            # The length goes in first: ["ab", "c"] and ["a", "bc"] are different corpora.
            size = len(content) if part.size is None else part.size
            self._digest.update(f"{part.side} {size}\n".encode())
            if not part.ends:
                self._document, self._length = hashlib.sha256(), 0
        self._digest.update(content)
        length = len(part.text)
        if self._document is None:
            told = hashlib.sha256(content).digest()
        else:
            self._document.update(content)
            self._length += length
            if not part.ends:
                return None
            told, length = self._document.digest(), self._length
            self._document = None
        side = part.side
        if side is None:
            self._characters[HELDOUT if int.from_bytes(told[:8]) < self._threshold else TRAIN] += length
        else:
            self._characters[side] += length
            self._named_by_source = True
        return Surveyed(told, _NAMED[side], length)

    def result(self) -> Survey:
        """What the whole corpus tells."""
        fraction, total = self._fraction, sum(self._characters.values())
        fair = fraction / 2 <= self._characters[HELDOUT] / max(total, 1) <= min(2 * fraction, 0.9)
        rule = BY_SOURCE if self._named_by_source else BY_DOCUMENT if fair else BY_TAIL
        return Survey(self._digest.hexdigest(), rule, total)


def survey(corpus: Corpus, heldout_fraction: float) -> Survey:
    """Read `corpus` once, without keeping it."""
    surveyor = Surveyor(heldout_fraction)
    for part in stretches(corpus):
        surveyor.read(part)
    return surveyor.result()


def document_side(document: Document, heldout_fraction: float) -> str:
    """The side a whole document is on: what its source says, else what its text says."""
    if document.side is not None:
        return document.side
    digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest()
    return HELDOUT if int.from_bytes(digest[:8]) < threshold(heldout_fraction) else TRAIN


def threshold(heldout_fraction: float) -> int:
    """A document whose number is below this is held out."""
    return math.ceil(heldout_fraction * 2**64)  # a float times a power of two is exact


def tail_start(tokens: int, heldout_fraction: float) -> int:
    """Where the held-out tail of a document of so many tokens begins."""
    return tokens - round(tokens * heldout_fraction)
