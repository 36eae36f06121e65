"""Local text files, as plain data (no data set library here)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from levanter.data.config import DataConfig

if TYPE_CHECKING:
    from levanter.data.corpus import Corpus


@dataclass(frozen=True)
class TextDataConfig(DataConfig):
    """Local text files, one document each: UTF-8, or with a byte order mark UTF-16 or UTF-32."""

    paths: list[str] = field(default_factory=list)
    """Files or patterns such as books/**/*.txt, from the working directory."""
    heldout_paths: list[str] = field(default_factory=list)
    """Files or patterns of the held-out text; empty means a share of `paths` is held out."""

    def corpus(self) -> Corpus:
        from levanter.data.sources.text.corpus import TextCorpus

        return TextCorpus(tuple(self.paths), tuple(self.heldout_paths))
