"""JSON lines, as plain data (no data set library here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.data.sources.rows_config import RowDataConfig

if TYPE_CHECKING:
    from levanter.data.corpus import Corpus


@dataclass(frozen=True)
class JsonlDataConfig(RowDataConfig):
    """JSON lines: each line of a file is an object, and one of its values is a document."""

    def corpus(self) -> Corpus:
        from levanter.data.sources.jsonl.corpus import JsonlCorpus

        return JsonlCorpus(tuple(self.paths), tuple(self.heldout_paths), self.column, self.bad_rows)
