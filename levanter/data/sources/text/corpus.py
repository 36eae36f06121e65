"""Local text files as a corpus."""

from __future__ import annotations

import codecs
import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from levanter.data import errors
from levanter.data.corpus import HELDOUT, TRAIN, Document

# A byte order mark says which encoding a file has; the longer marks come first, since UTF-32's begins with UTF-16's.
_MARKED = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NAMES = {"utf-16": "UTF-16", "utf-32": "UTF-32"}


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
        train = expand("paths", self.paths)
        heldout = expand("heldout_paths", self.heldout_paths)
        for file in train:
            yield Document(read("paths", file), train_side, file)
        for file in heldout:
            yield Document(read("heldout_paths", file), HELDOUT, file)


def expand(field: str, patterns: Iterable[str]) -> list[str]:
    """The files that patterns in a field of the config name, in the order of the patterns.

    Raises:
        UserError: one names none.
    """
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


def read(field: str, path: str) -> str:
    """The text of a file that a field of the config names.

    Raises:
        UserError: it cannot be read, is empty, or is no text.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise errors.file_unreadable(field, path, error.strerror or str(error)) from error
    encoding = next((name for mark, name in _MARKED.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise errors.file_not_text(field, path, _NAMES.get(encoding, "UTF-8"), error.start) from error
    if not text.strip():
        raise errors.file_empty(field, path)
    return text
