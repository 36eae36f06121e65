"""Corpora: where documents come from.

A corpus can be read again and again, always in the same order. Each document says which side of the split it is on, or
leaves that to the rule of `levanter.data.split`.

What builds the token cache reads a corpus as `Stretch`es, so that a document need not fit in memory. A corpus that
gives whole documents only is one of short documents; `stretches` makes them of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

TRAIN = "train"
HELDOUT = "heldout"

T = TypeVar("T")


@dataclass(frozen=True)
class Document:
    """One text. `side` is "train" or "heldout" where the source itself says so, else None.

    `domain` is what an evaluation counts it under, such as its file; None where the source is all of one kind.
    """

    text: str
    side: str | None = None
    domain: str | None = None


class Stretch(NamedTuple):
    """Some text of a document; the next stretch goes on with it, unless the document ends here.

    Attributes:
        side: of the document, as in `Document`.
        domain: of the document, as in `Document`.
        ends: whether the document ends here.
        size: bytes of the whole document in UTF-8. Told with the first of several stretches of one document.
    """

    text: str
    side: str | None = None
    domain: str | None = None
    ends: bool = True
    size: int | None = None


class Corpus(Protocol):
    """Documents in a fixed order."""

    @property
    def source(self) -> str:
        """What to call this corpus in a message."""
        ...

    def documents(self) -> Iterator[Document]:
        """Every document, from the first, at each call. Raises `UserError` when one cannot be read."""
        ...


@dataclass
class Reading:
    """What one reading of a corpus is told and tells besides the text.

    Attributes:
        read: called with the bytes of the source that have been read since the last call.
        skipped: how many bad rows were left out.
        first_skipped: what is wrong with the first of them, and where it is.
        heldout_first: whether held-out text that the source names is wanted before all other.
    """

    read: Callable[[int], None] = lambda _: None
    skipped: int = 0
    first_skipped: str | None = None
    heldout_first: bool = False

    def skip(self, reason: str) -> None:
        """A bad row is left out."""
        self.skipped += 1
        self.first_skipped = self.first_skipped or reason

    def ordered(self, train: T, heldout: T) -> tuple[T, T]:
        """What is to be read of each side, in the order in which it is wanted."""
        return (heldout, train) if self.heldout_first else (train, heldout)


@runtime_checkable
class Streamed(Protocol):
    """A corpus that is read in stretches, and whose text need not be read to know whether it has changed."""

    @property
    def source(self) -> str: ...

    def documents(self) -> Iterator[Document]: ...

    def stretches(self, reading: Reading) -> Iterator[Stretch]:
        """Every document in stretches of a few megabytes at most. Raises `UserError` when one cannot be read."""
        ...

    def fingerprint(self) -> Fingerprint | None:
        """What to compare instead of the text; None where nothing but the text tells.

        Raises:
            UserError: what the corpus is read from is not there.
        """
        ...


@dataclass(frozen=True)
class Fingerprint:
    """What the files of a corpus are, without their text.

    Attributes:
        parts: for each file (or the like) its name, and what changes whenever its content does.
        size: bytes of all files, where they are known.
        youngest: when the last of them was changed, in seconds since 1970; a file that is changed twice within a
            moment may look the same.
    """

    parts: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    youngest: float = 0.0


def stretches(corpus: Corpus, reading: Reading | None = None) -> Iterator[Stretch]:
    """The text of a corpus, from its first document."""
    reading = reading or Reading()
    if isinstance(corpus, Streamed):
        yield from corpus.stretches(reading)
        return
    for document in corpus.documents():
        reading.read(len(document.text))
        yield Stretch(document.text, document.side, document.domain)


def documents(parts: Iterator[Stretch]) -> Iterator[Document]:
    """Stretches as whole documents."""
    held: list[str] = []
    for part in parts:
        held.append(part.text)
        if part.ends:
            yield Document("".join(held), part.side, part.domain)
            held = []
