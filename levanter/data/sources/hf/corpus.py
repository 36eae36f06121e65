"""A data set that the `datasets` library loads, as a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from levanter.data import errors
from levanter.data.corpus import HELDOUT, TRAIN, Document
from levanter.optional import require


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
