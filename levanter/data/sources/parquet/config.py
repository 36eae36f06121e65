"""Parquet files, as plain data (no data set library here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.data.sources.rows_config import RowDataConfig

if TYPE_CHECKING:
    from levanter.data.corpus import Corpus


@dataclass(frozen=True)
class ParquetDataConfig(RowDataConfig):
    """Parquet files: each row is a document, and one column of them has the text. The extra `data` reads them."""

    def corpus(self) -> Corpus:
        from levanter.data.sources.parquet.corpus import ParquetCorpus

        return ParquetCorpus(tuple(self.paths), tuple(self.heldout_paths), self.column, self.bad_rows)
