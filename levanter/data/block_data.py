"""Batches of a text that may still be tokenized: the order of its first epoch is one of blocks.

The order of an epoch is a permutation of all its sequences, so it needs to know how many there are. Where
`data.shuffle_block` is set, the first epoch goes through the text block after block, and a permutation is one of a
block: a batch needs the text up to the end of its blocks and no more. Whether that was tokenized long ago or a moment
ago does not matter: the batches are the same, and a batch whose text is not there yet waits for it. From the second
epoch on the length is known, and the order is that of all sequences.

What may depend on the whole text must not here. A document is held out by its own hash, unless its source says so.
Evaluations use the held-out documents before the end of the first block; those that a source names by themselves are
tokenized first, so that all of them are among these. Token frequencies are those of the first block.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from levanter.data import builder, errors
from levanter.data.builder import Builder, Task
from levanter.data.cache import Cache, cache_dir_of
from levanter.data.corpus import HELDOUT, TRAIN
from levanter.data.growing import Growing
from levanter.data.packing import WHOLE, Batch, Packing, packed
from levanter.data.permutation import Permutation
from levanter.data.token_data import TokenData
from levanter.data.tokenizer import Tokenizer, load_tokenizer
from levanter.data.tokens import SpannedTokens

if TYPE_CHECKING:
    from levanter.data.config import DataConfig

_ALL = 1 << 62
_POLL_SECONDS = 0.1


def blocks(config: DataConfig, *, seq_len: int, seed: int, batch_size: int, notify: Callable[[str], None]) -> TokenData:
    """The text of a corpus in blocks; see `levanter.data.build`. Returns once the first block is there."""
    assert config.shuffle_block is not None
    tokenizer = load_tokenizer(config.tokenizer)
    growing = _growing(config, tokenizer, notify)
    if not growing.complete:
        notify(errors.waiting_for_tokens(growing.source, config.shuffle_block))
    rows = Rows(growing, partial(packed, config.packing, seq_len=seq_len, end_of_text=tokenizer.end_of_text))
    first = _first_block(rows, config.shuffle_block, f"{tokenizer.identity} {tokenizer.end_of_text}")
    least = 1 if config.packing == WHOLE else seq_len + 1
    if len(first.train) < least:
        raise errors.too_short("training", growing.source, len(first.train), seq_len)
    if len(first.heldout) < least:
        raise errors.no_heldout_in_block(growing.source, config.shuffle_block, len(first.heldout), least)
    shape = {"seq_len": seq_len, "seed": seed, "batch_size": batch_size}
    return BlockData(first, rows, config.shuffle_block, tokenizer, **shape, packing=config.packing)


def build_whole(config: DataConfig, notify: Callable[[str], None]) -> None:
    """Tokenize all that a config names in blocks, here and now."""
    for part in (config.parts() or {"": config}).values():
        if part.shuffle_block is not None:
            _cache(part, load_tokenizer(part.tokenizer), notify).view()


def _cache(config: DataConfig, tokenizer: Tokenizer, notify: Callable[[str], None]) -> Cache:
    folder = cache_dir_of(config.cache_dir)
    return Cache(folder, config.corpus(), tokenizer, config.heldout_fraction, notify, by_blocks=True)


def _growing(config: DataConfig, tokenizer: Tokenizer, notify: Callable[[str], None]) -> Growing:
    """The tokens of a corpus, and where they are not all there the process that makes them."""
    cache = _cache(config, tokenizer, notify)
    if (view := cache.known()) is not None:
        return Growing(cache, config.heldout_fraction, view)
    task = Task(config.corpus(), config.tokenizer, config.heldout_fraction, cache_dir_of(config.cache_dir))
    if not builder.can_build(task):
        return Growing(cache, config.heldout_fraction, cache.view())
    cache.without_old_list()
    return Growing(cache, config.heldout_fraction, check=Builder(task).check)


@dataclass(frozen=True)
class Reached:
    """Training sequences that are there.

    Attributes:
        tokens: what they are cut from.
        rows: the sequences, in the order of the text.
        whole: whether there are no others.
    """

    tokens: SpannedTokens
    rows: Packing
    whole: bool

    def position(self, rows: int) -> int | None:
        """Where in the corpus the first so many sequences end; None where there are not so many."""
        if self.rows.count < rows:
            return None
        return self.tokens.stands_at(self.rows.stop(rows) - 1) + 1


class Rows:
    """The training sequences of a text that grows; asked for by several threads.

    Args:
        packed: makes them of tokens; see `levanter.data.packing.packed`.
    """

    def __init__(self, growing: Growing, packed: Callable[..., Packing]) -> None:
        self.growing = growing
        self._packed = packed
        self._lock = threading.Lock()
        self._last: Reached | None = None

    def reached(self, count: int) -> Reached:
        """At least so many sequences, or all; waits for them.

        Raises:
            UserError: they cannot be had.
        """
        while True:
            found = self._last
            if found is not None and (found.rows.count >= count or found.whole):
                return found
            with self._lock:  # not while waiting: others may need less
                came = self._look() if found is self._last else True
            if not came:
                time.sleep(_POLL_SECONDS)

    def _look(self) -> bool:
        """Take in what has come; whether something has."""
        before, growing = self._last, self.growing
        if not growing.complete and not growing.look():
            return False
        rows = self._packed(tokens=growing.tokens(TRAIN), ended=growing.complete, before=before and before.rows)
        self._last = Reached(growing.tokens(TRAIN), rows, growing.complete)
        return True


@dataclass(frozen=True)
class FirstBlock:
    """The text that is there at every start, as `levanter.data.token_data.Sides`.

    Attributes:
        key: of what makes the tokens.
        train: the first block.
        heldout: the held-out documents before its end.
    """

    key: str
    train: SpannedTokens
    heldout: SpannedTokens


def _first_block(rows: Rows, block: int, key: str) -> FirstBlock:
    found = rows.reached(block)
    train, heldout = found.tokens, rows.growing.tokens(HELDOUT)
    if (position := found.position(block)) is not None:
        train, heldout = train.first(found.rows.stop(block)), heldout.before(position)
    return FirstBlock(key, train, heldout)


class BlockData(TokenData):
    """Training and held-out batches of a text in blocks.

    Args:
        first: the first block.
        rows: all training sequences.
        block: sequences of a block.
    """

    def __init__(
        self,
        first: FirstBlock,
        rows: Rows,
        block: int,
        tokenizer: Tokenizer,
        *,
        seq_len: int,
        seed: int,
        batch_size: int,
        packing: str,
    ) -> None:
        super().__init__(first, tokenizer, seq_len=seq_len, seed=seed, batch_size=batch_size, packing=packing)
        self._all, self._block = rows, block
        self._identities: dict[int, str] = {}

    @property
    def identity(self) -> str:
        return self.identity_of(_ALL)

    @property
    def corpora(self) -> tuple[str, ...]:
        view = self._all.growing.view
        return () if view is None else (view.key,)

    def identity_of(self, rows: int) -> str:
        """A hash of the documents up to the end of the block of the last of so many sequences, the tokenizer and the
        blocks. Waits for that text."""
        reaches = max(1, -(-rows // self._block)) * self._block
        if reaches not in self._identities:
            documents = self._all.growing.documents(self._all.reached(reaches).position(reaches))
            told = ["blocks", 1, self._block, self._tokens.key, documents]
            self._identities[reaches] = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        return self._identities[reaches]

    @property
    def num_train_tokens(self) -> int:
        """Tokens of the training text; waits for all of it."""
        return len(self._all.reached(_ALL).tokens)

    @property
    def num_train_windows(self) -> int:
        """Sequences of one epoch; waits for all of them."""
        return self._all.reached(_ALL).rows.count

    def sequences(self, places: np.ndarray) -> Batch:
        """See `TokenData`; waits for the text of their blocks."""
        found = self._all.reached((int(places.max(initial=0)) // self._block + 1) * self._block)
        count = found.rows.count
        first = places < (count if found.whole else _ALL)
        numbers = np.empty_like(places)
        if not first.all():
            numbers[~first] = self._in_order(places[~first], count)
        numbers[first] = self._in_blocks(places[first], count)
        return found.rows.cut(numbers)

    def _in_blocks(self, places: np.ndarray, count: int) -> np.ndarray:
        """Which of `count` sequences stand at some places of the first epoch."""
        found = np.empty_like(places)
        numbers = places // self._block
        for number in np.unique(numbers):
            start = int(number) * self._block
            order = Permutation(
                min(self._block, count - start), f"window order, seed {self.seed}, epoch 0, block {number}"
            )
            of_block = numbers == number
            found[of_block] = start + order(places[of_block] - start)
        return found
