"""Sources whose documents are rows of files: what JSON lines and Parquet have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from levanter.data import errors
from levanter.data.corpus import Reading
from levanter.data.sources import files
from levanter.data.sources.columns import names_in
from levanter.data.sources.file_corpus import FileCorpus
from levanter.data.sources.files import File
from levanter.errors import suggestion

SKIP = "skip"
LARGEST_ROW = 1 << 26
"""Bytes of a row. What is larger is a text of its own, and not read at once."""


@dataclass(frozen=True)
class RowCorpus(FileCorpus):
    """The rows of files, each a document, in the order of the files.

    Attributes:
        column: of each row, what its text is called.
        bad_rows: "skip" leaves bad rows out and counts them; "error" refuses them.
    """

    endings: ClassVar[Sequence[str]]

    column: str = "text"
    bad_rows: str = "error"

    def _expanded(self, field: str, patterns: tuple[str, ...]) -> list[File]:
        return files.expand(field, patterns, self.endings)

    def _bad(self, where: str, field: str, reason: str, reading: Reading) -> None:
        """A row that cannot be used: the end, or one less."""
        if self.bad_rows != SKIP:
            raise errors.bad_row(where, field, reason)
        reading.skip(f"{where}: {reason}")


def half_a_pair(text: str) -> bool:
    """Whether a text has half of a surrogate pair, which JSON can write and no encoding of text can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


HALF_A_PAIR = "it has half of a surrogate pair, which is no character"


def texts_of(column: Any) -> list[Any]:
    """The values of an Arrow column; of strings that are no UTF-8 their bytes."""
    try:
        return [_decoded(value) for value in column.to_pylist()] if "binary" in str(column.type) else column.to_pylist()
    except UnicodeDecodeError:
        return [_text_or_bytes(value) for value in column]


def _decoded(value: Any) -> Any:
    """Bytes as text where they are some: many a Parquet file does not say that its strings are."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _text_or_bytes(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.as_buffer().to_pybytes()


def not_text(column: str, value: Any) -> str:
    """What is wrong with a column that is no text."""
    if isinstance(value, bytes):
        return f"`{column}` is bytes that are not UTF-8"
    kind = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return f"`{column}` is {kind.get(type(value), 'an object')}, not text"


def no_column(column: str, row: dict[str, Any]) -> str:
    """What is wrong with a row that lacks the column."""
    known = list(names_in(row))
    return f"it has no `{column}`; {suggestion(column, known)} (data.column)" if known else f"it has no `{column}`"
