"""What is remembered of a corpus, so that a start need not read its text again.

A record belongs to a request (the source, as the config describes it, the tokenizer, the share held out) and says what
the files were when they were read (size, times, inode), and which view of the cache their text became. Where the files
are the same, so is the text; where they are gone, the record still leads to the tokens.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levanter import durable
from levanter.data import chunks
from levanter.data.corpus import Corpus, Fingerprint, Reading
from levanter.data.tokenizer import Tokenizer

YOUNG_SECONDS = 2.0
"""A file that was changed so shortly before it was read could have been changed again without a trace in its times."""


@dataclass(frozen=True)
class Record:
    """Attributes:
    view: the identity of the data.
    parts: for each file what it was when it was read.
    settled: whether every file was old enough then for its times to tell.
    made: when, in seconds since 1970.
    source: what the corpus is called.
    skipped: how many bad rows were left out, and `first_skipped` the first of them.
    """

    view: str
    parts: dict[str, Any]
    settled: bool
    made: float
    source: str
    skipped: int = 0
    first_skipped: str | None = None

    @staticmethod
    def of(view: str, corpus: Corpus, mark: Fingerprint, reading: Reading, now: float) -> Record:
        """The record of a reading that began at `now`."""
        settled = now - mark.youngest > YOUNG_SECONDS
        parts = json.loads(json.dumps(dict(mark.parts)))
        return Record(view, parts, settled, now, corpus.source, reading.skipped, reading.first_skipped)

    def fits(self, mark: Fingerprint) -> bool:
        """Whether the text is the one that was read."""
        return self.settled and self.parts == json.loads(json.dumps(dict(mark.parts)))

    @property
    def others_unchanged(self) -> bool:
        """Whether the files that are still there are those that were read."""
        for name, mark in self.parts.items():
            try:
                found = os.stat(name)
            except OSError:
                continue
            if mark != [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]:
                return False
        return True

    @property
    def day(self) -> str:
        """When it was made, as a date."""
        return time.strftime("%Y-%m-%d", time.localtime(self.made))


def request(corpus: Corpus, tokenizer: Tokenizer, heldout_fraction: float) -> str:
    """A hash of what is asked for: equal for equal questions about the same files."""
    kind = f"{type(corpus).__module__}:{type(corpus).__qualname__}"
    fields = dataclasses.asdict(corpus) if dataclasses.is_dataclass(corpus) else {"source": corpus.source}  # type: ignore[call-overload]
    asked = [kind, fields, os.getcwd(), chunks.identity(tokenizer), heldout_fraction]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:32]


def read(path: Path) -> Record | None:
    """The record in a file; None where there is none that can be read."""
    try:
        return Record(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write(path: Path, record: Record) -> None:
    """Keep a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_file(path, json.dumps(dataclasses.asdict(record), indent=1).encode())
