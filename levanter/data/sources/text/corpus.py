"""Text files as a corpus: each is a document, read in stretches."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from levanter.data import errors
from levanter.data.corpus import Reading, Stretch
from levanter.data.sources import files
from levanter.data.sources.file_corpus import FileCorpus
from levanter.data.sources.files import File

# A byte order mark says which encoding a file has; the longer marks come first, since UTF-32's begins with UTF-16's.
_MARKED = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NAMES = {"utf-16": "UTF-16", "utf-32": "UTF-32"}
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class TextCorpus(FileCorpus):
    """Text files, each a document."""

    def _of_file(self, file: File, side: str | None, reading: Reading) -> Iterator[Stretch]:
        return _stretches(file, side, reading)

    def _expanded(self, field: str, patterns: tuple[str, ...]) -> list[File]:
        return files.expand(field, patterns)

    def _files(self) -> tuple[list[File], list[File]]:
        train, heldout = super()._files()
        for file in (*train, *heldout):
            for kind, endings in (("jsonl", files.JSONL_ENDINGS), ("parquet", files.PARQUET_ENDINGS)):
                if file.ending in endings:
                    raise errors.rows_as_text(file.field, file.path, kind)
        return train, heldout


def read(file: File) -> str:
    """The text of a file.

    Raises:
        UserError: it cannot be read, is empty, or is no text.
    """
    return "".join(part.text for part in _stretches(file, None, Reading()))


def _stretches(file: File, side: str | None, reading: Reading) -> Iterator[Stretch]:
    size = _size(file)
    found = 0
    blank = True
    before: str | None = None
    for text in _texts(file, reading):
        if before is not None:
            yield Stretch(before, side, file.path, False, size)
        blank = blank and not text.strip()
        found += len(text.encode())
        before = text
    if before is None or blank:
        raise errors.file_empty(file.field, file.path)
    if size is not None and found != size:
        raise errors.file_changed(file.field, file.path)
    yield Stretch(before, side, file.path, True, size)


def _size(file: File) -> int | None:
    """Bytes of the text in UTF-8; None where it fits one block, which tells by itself."""
    size = file.size()
    if not file.is_compressed and size <= _BLOCK_BYTES:
        return None
    with file.open() as content:
        mark = _mark(_block(file, content, 4))
    if file.is_compressed or mark not in (b"", codecs.BOM_UTF8):
        # Nothing tells but the text.
        return sum(len(text.encode()) for text in _texts(file, Reading()))
    return size - len(mark)


def _mark(first: bytes) -> bytes:
    return next((mark for mark in _MARKED if first.startswith(mark)), b"")


def encoding_of(first: bytes) -> str:
    """The encoding of a file that begins so."""
    return _MARKED.get(_mark(first[:4]), "utf-8")


def _texts(file: File, reading: Reading) -> Iterator[str]:
    """The text of a file in blocks."""
    with file.open() as content:
        decoder = None
        encoding = "utf-8"
        done = 0  # bytes that are decoded
        ends = False
        while not ends:
            block = _block(file, content, _BLOCK_BYTES)
            ends = not block
            if decoder is None:
                encoding = encoding_of(block)
                decoder = codecs.getincrementaldecoder(encoding)()
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, ends)
            except UnicodeDecodeError as error:
                place = done - held + error.start
                raise errors.file_not_text(file.field, file.path, _NAMES.get(encoding, "UTF-8"), place) from error
            done += len(block)
            reading.read(len(block))
            if text:
                yield text


def _block(file: File, content: IO[bytes], size: int) -> bytes:
    try:
        return content.read(size)
    except file.failures as error:
        raise files.reading(file)(error) from error
