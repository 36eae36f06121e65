"""Batches: what a step reads, as a pure function of the seed and the step's number.

The training text is cut into windows of `seq_len + 1` tokens that overlap by one (the last target of a window is the
first token of the next), so every token but the first is a target once an epoch. Each epoch has its own order of the
windows, `Permutation(seed, epoch)`; batch k is the places k·batch … k·batch+batch-1 of the endless row of epochs. There
is no iterator state to save: a resumed run asks for the batch of its step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from levanter.data import errors
from levanter.data.cache import cached_tokens, default_cache_dir
from levanter.data.permutation import Permutation
from levanter.data.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from levanter.data.config import DataConfig

Batch = tuple[np.ndarray, np.ndarray]
"""Tokens and targets, each int32 [batch, position]; a target is the token after."""


def build(
    config: DataConfig,
    *,
    seq_len: int,
    seed: int,
    batch_size: int,
    notify: Callable[[str], None] | None = None,
) -> TokenData:
    """The data of a run: reads the corpus, tokenizes it (or finds that done) and fixes the order.

    Args:
        seq_len: positions of one sequence, in tokens.
        seed: fixes the order of the windows.
        batch_size: sequences of one training batch.
        notify: told, in a line for people, of work that takes a while; prints on stderr by default.

    Raises:
        UserError: the text or the tokenizer cannot be had, or the text is too short for one sequence.
    """
    return config.batches(seq_len=seq_len, seed=seed, batch_size=batch_size, notify=notify or _to_stderr)


def windows(
    config: DataConfig, *, seq_len: int, seed: int, batch_size: int, notify: Callable[[str], None]
) -> TokenData:
    """Windows of the text of a corpus; see `build`."""
    tokenizer = load_tokenizer(config.tokenizer)
    corpus = config.corpus()
    cache_dir = default_cache_dir() if config.cache_dir is None else Path(config.cache_dir).expanduser()
    tokens = cached_tokens(corpus, tokenizer, config.heldout_fraction, cache_dir, notify)
    for side, ids in (("training", tokens.train), ("held-out", tokens.heldout)):
        if len(ids) < seq_len + 1:
            raise errors.too_short(side, corpus.source, len(ids), seq_len)
    return TokenData(tokens, tokenizer, seq_len=seq_len, seed=seed, batch_size=batch_size)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Sides(Protocol):
    """The tokens of both sides. Equal `key`s mean equal tokens."""

    @property
    def key(self) -> str: ...

    @property
    def train(self) -> Any: ...

    @property
    def heldout(self) -> Any: ...


class TokenData:
    """Training and held-out batches over tokens that lie in memory or in the cache.

    A subclass may have sequences of another kind: it says how many a side has, and makes a batch of some of them.
    """

    ignores = False
    """Whether some targets are negative, for nothing to be learned from."""

    def __init__(self, tokens: Sides, tokenizer: Tokenizer, *, seq_len: int, seed: int, batch_size: int) -> None:
        self.tokenizer = tokenizer
        self._tokens = tokens
        self._seq_len = seq_len
        self._seed = seed
        self._batch_size = batch_size

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self.tokenizer.vocab_size

    @property
    def identity(self) -> str:
        """A hash of the text, the tokenizer and the split: the same data has the same identity, wherever it lies."""
        return self._tokens.key

    @property
    def num_train_tokens(self) -> int:
        """Tokens of the training text."""
        return len(self._tokens.train)

    @property
    def num_heldout_tokens(self) -> int:
        """Tokens of the held-out text."""
        return len(self._tokens.heldout)

    @property
    def num_train_windows(self) -> int:
        """Sequences of one epoch."""
        return self._windows_of(self._tokens.train)

    def train_batch(self, step: int) -> Batch:
        """The batch of training step `step`, counted from 0: always the same for the same seed."""
        return self.train_rows(step, range(self._batch_size))

    def train_rows(self, step: int, rows: Sequence[int] | np.ndarray) -> Batch:
        """Some rows of the batch of training step `step`: a process reads those of its own devices and no other.

        A pure function of the seed, the step and the rows: `train_rows(step, rows)` is `train_batch(step)` at `rows`.

        Args:
            rows: numbers of rows, each below the size of a batch, in the order in which they are wanted.

        Returns: tokens and targets, each int32 [len(rows), position].
        """
        if step < 0:
            raise ValueError(f"a step is counted from 0, not {step}")
        numbers = np.asarray(rows, np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < self._batch_size:
            raise ValueError(f"the rows of a batch are 0 to {self._batch_size - 1}, not {numbers.tolist()}")
        epochs, places = np.divmod(step * self._batch_size + numbers, self.num_train_windows)
        windows = np.empty_like(places)
        for epoch in np.unique(epochs):
            of_epoch = epochs == epoch
            order = Permutation(self.num_train_windows, f"window order, seed {self._seed}, epoch {epoch}")
            windows[of_epoch] = order(places[of_epoch])
        return self._cut(self._tokens.train, windows)

    def heldout_batches(self, n: int, batch_size: int) -> list[Batch]:
        """At most `n` full batches of held-out text, evenly spread over it: the same at every call, for every seed.

        Fewer where the text is short; one batch is always there, with windows repeated if need be, unless `n` is 0.
        """
        available = self._windows_of(self._tokens.heldout)
        batches = min(n, max(1, available // batch_size))
        count = batches * batch_size
        windows = np.arange(count, dtype=np.int64) * max(available, count) // max(count, 1) % available
        return [self._cut(self._tokens.heldout, part) for part in windows.reshape(batches, batch_size)]

    def unigram_loss(self, batches: Sequence[Batch] | None = None) -> float:
        """Held-out cross entropy of the best model that ignores context, in nats a token: what training must beat.

        The model is the token frequencies of the training text with one added to every count, so that no token is
        impossible. It is judged on all held-out tokens, or on the targets of `batches`.
        """
        counts = np.bincount(self._tokens.train, minlength=self.vocab_size) + 1
        heldout = [self._tokens.heldout] if batches is None else [targets.reshape(-1) for _, targets in batches]
        seen = sum((np.bincount(ids, minlength=self.vocab_size) for ids in heldout), np.zeros(self.vocab_size, int))
        return float(-(seen @ np.log(counts / counts.sum())) / seen.sum())

    def _windows_of(self, tokens: Any) -> int:
        """How many sequences a side has."""
        return (len(tokens) - 1) // self._seq_len

    def _cut(self, tokens: Any, windows: np.ndarray) -> Batch:
        """The sequences of a side that have the numbers `windows`."""
        starts = windows * self._seq_len
        rows = tokens[starts[:, None] + np.arange(self._seq_len + 1)].astype(np.int32)
        return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])
