"""A data set of the Hugging Face hub, as plain data (no data set library here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.data.config import DataConfig
from levanter.data.sources.rows_config import BAD_ROWS
from levanter.fields import word

if TYPE_CHECKING:
    from levanter.data.corpus import Corpus

ROWS = ("documents", "lines")


@dataclass(frozen=True)
class HfDataConfig(DataConfig):
    """A data set of the Hugging Face hub (or a local folder that the `datasets` library reads)."""

    id: str = "Salesforce/wikitext"
    """Name of the data set on the hub, or the path of a local folder."""
    name: str | None = None
    """Which configuration of the data set, such as wikitext-2-raw-v1; null where it has one only."""
    train_split: str = "train"
    """Split of the training text."""
    heldout_split: str | None = "validation"
    """Split of the held-out text; null means a share of the training split is held out."""
    column: str = "text"
    """What the text of a row is called."""
    rows: str = word("documents", ROWS)
    """documents: each row is a document. lines: the rows of a split are one running text, as in WikiText."""

    streaming: bool = False
    """Whether rows are read as they come over the network, and no copy of the data set is kept but its tokens."""
    bad_rows: str = word("error", BAD_ROWS)
    """What becomes of a row whose column is no text: error stops; skip leaves it out and counts it."""

    def corpus(self) -> Corpus:
        from levanter.data.sources.hf.corpus import HfCorpus

        return HfCorpus(
            self.id,
            self.name,
            self.train_split,
            self.heldout_split,
            self.column,
            self.rows,
            self.streaming,
            self.bad_rows,
        )
