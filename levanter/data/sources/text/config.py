"""Text files, as plain data (no data set library here)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from levanter.data.config import DataConfig

if TYPE_CHECKING:
    from levanter.data.corpus import Corpus


@dataclass(frozen=True)
class TextDataConfig(DataConfig):
    """Text files, one document each: UTF-8, or with a byte order mark UTF-16 or UTF-32; .gz, .bz2, .xz or .zst."""

    paths: list[str] = field(default_factory=list)
    """Files, folders, patterns such as books/**/*.txt (from the working directory), or URLs such as gs://bucket/*.txt."""
    heldout_paths: list[str] = field(default_factory=list)
    """The same for the held-out text; empty means a share of `paths` is held out."""

    def corpus(self) -> Corpus:
        from levanter.data.sources.text.corpus import TextCorpus

        return TextCorpus(tuple(self.paths), tuple(self.heldout_paths))
