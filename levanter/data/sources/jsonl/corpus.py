"""JSON lines as a corpus."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from levanter.data.corpus import Reading, Stretch
from levanter.data.sources import files
from levanter.data.sources.columns import value_at
from levanter.data.sources.files import JSONL_ENDINGS, File
from levanter.data.sources.rows import HALF_A_PAIR, LARGEST_ROW, RowCorpus, half_a_pair, no_column, not_text
from levanter.data.sources.text.corpus import encoding_of

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class JsonlCorpus(RowCorpus):
    """The lines of files of JSON, each a document."""

    endings = JSONL_ENDINGS

    def _of_file(self, file: File, side: str | None, reading: Reading) -> Iterator[Stretch]:
        column = self.column
        is_plain = "." not in column
        for number, line in enumerate(_lines(file, reading), 1):
            if line is None:
                self._bad(f"{file.path}:{number}", file.field, _TOO_LONG, reading)
                continue
            try:
                row = json.loads(line)
                text = row[column] if is_plain else value_at(row, column)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                if not line.strip():
                    continue
                self._tell(file, number, line, error, reading)
                continue
            if type(text) is not str:
                self._bad(f"{file.path}:{number}", file.field, not_text(column, text), reading)
                continue
            if b"\\u" in line and half_a_pair(text):
                self._bad(f"{file.path}:{number}", file.field, HALF_A_PAIR, reading)
                continue
            yield Stretch(text, side, file.path)

    def _tell(self, file: File, number: int, line: bytes, error: Exception, reading: Reading) -> None:
        where = f"{file.path}:{number}"
        if isinstance(error, json.JSONDecodeError):
            where, reason = f"{where}:{error.colno}", f"not JSON: {error.msg[0].lower()}{error.msg[1:]}"
        elif isinstance(error, UnicodeDecodeError):
            where, reason = f"{where}:{error.start + 1}", "not UTF-8"
        elif isinstance(error, KeyError):
            reason = no_column(self.column, json.loads(line))
        elif isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        elif isinstance(error, ValueError):
            reason = "not JSON: a number has too many digits"
        else:
            reason = "it is not a JSON object"
        self._bad(where, file.field, reason, reading)


_TOO_LONG = f"the line is longer than {LARGEST_ROW >> 20} MB; a text of its own can be longer (data.type text)"


def _lines(file: File, reading: Reading) -> Iterator[bytes | None]:
    """The lines of a file; None for one that is too long to be held."""
    with file.open() as content:
        rest: list[bytes] = []  # of a line that goes on
        held = 0
        for block in _blocks(file, content, reading):
            *whole, last = block.split(b"\n")
            for line in whole:
                if rest or held:
                    line = None if held > LARGEST_ROW else b"".join([*rest, line])
                    rest, held = [], 0
                yield line
            held += len(last)
            if held <= LARGEST_ROW:
                rest.append(last)
            else:
                rest = []
        if held:
            yield None if held > LARGEST_ROW else b"".join(rest)


def _blocks(file: File, content: Any, reading: Reading) -> Iterator[bytes]:
    """What is in a file, in UTF-8 where a byte order mark says that it has another encoding."""
    block = _block(file, content)
    encoding = encoding_of(block)
    decoder = None if encoding.startswith("utf-8") else codecs.getincrementaldecoder(encoding)()
    while block:
        reading.read(len(block))
        yield block if decoder is None else _as_utf8(file, decoder, block)
        block = _block(file, content)
    if decoder is not None:
        yield _as_utf8(file, decoder, b"", ends=True)


def _as_utf8(file: File, decoder: codecs.IncrementalDecoder, block: bytes, ends: bool = False) -> bytes:
    try:
        return decoder.decode(block, ends).encode()
    except UnicodeDecodeError as error:
        raise files.reading(file)(error) from error


def _block(file: File, content: Any) -> bytes:
    try:
        return content.read(_BLOCK_BYTES)
    except file.failures as error:
        raise files.reading(file)(error) from error
