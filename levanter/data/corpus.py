"""Corpora: where documents come from.

A corpus can be read again and again, always in the same order. Each document says which side of the split it is on, or
leaves that to the rule of `levanter.data.split`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

TRAIN = "train"
HELDOUT = "heldout"


@dataclass(frozen=True)
class Document:
    """One text. `side` is "train" or "heldout" where the source itself says so, else None.

    `domain` is what an evaluation counts it under, such as its file; None where the source is all of one kind.
    """

    text: str
    side: str | None = None
    domain: str | None = None


class Corpus(Protocol):
    """Documents in a fixed order."""

    @property
    def source(self) -> str:
        """What to call this corpus in a message."""
        ...

    def documents(self) -> Iterator[Document]:
        """Every document, from the first, at each call. Raises `UserError` when one cannot be read."""
        ...
