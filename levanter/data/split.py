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
from dataclasses import dataclass

from levanter.data.corpus import HELDOUT, TRAIN, Corpus, Document

BY_SOURCE = "source"
BY_DOCUMENT = "documents"
BY_TAIL = "tails"


@dataclass(frozen=True)
class Survey:
    """What one reading of a corpus tells: a hash of all its text, how to split it, and how much there is."""

    sha256: str
    rule: str
    characters: int


def survey(corpus: Corpus, heldout_fraction: float) -> Survey:
    """Read `corpus` once, without keeping it."""
    digest = hashlib.sha256()
    characters = {TRAIN: 0, HELDOUT: 0}
    named_by_source = False
    for document in corpus.documents():
        content = document.text.encode("utf-8", "surrogatepass")
        # The length goes in first: ["ab", "c"] and ["a", "bc"] are different corpora.
        digest.update(f"{document.side} {len(content)}\n".encode())
        digest.update(content)
        named_by_source |= document.side is not None
        characters[document_side(document, heldout_fraction)] += len(document.text)
    total = sum(characters.values())
    fair = heldout_fraction / 2 <= characters[HELDOUT] / max(total, 1) <= min(2 * heldout_fraction, 0.9)
    rule = BY_SOURCE if named_by_source else BY_DOCUMENT if fair else BY_TAIL
    return Survey(digest.hexdigest(), rule, total)


def document_side(document: Document, heldout_fraction: float) -> str:
    """The side a whole document is on: what its source says, else what its text says."""
    if document.side is not None:
        return document.side
    digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest()
    return HELDOUT if int.from_bytes(digest[:8]) < heldout_fraction * 2**64 else TRAIN


def tail_start(tokens: int, heldout_fraction: float) -> int:
    """Where the held-out tail of a document of so many tokens begins."""
    return tokens - round(tokens * heldout_fraction)
