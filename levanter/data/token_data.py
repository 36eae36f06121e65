"""Batches: what a step reads, as a pure function of the seed and the step's number.

The training text is cut into windows of `seq_len + 1` tokens that overlap by one (the last target of a window is the
first token of the next), so every token but the first is a target once an epoch. Each epoch has its own order of the
windows, `Permutation(seed, epoch)`; batch k is the places k·batch … k·batch+batch-1 of the endless row of epochs. There
is no iterator state to save: a resumed run asks for the batch of its step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from levanter.data import errors
from levanter.data.ahead import Upcoming
from levanter.data.cache import cache_dir_of, cached_tokens
from levanter.data.packing import STREAM, WHOLE, Batch, Packing, packed
from levanter.data.permutation import Permutation
from levanter.data.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from levanter.data.config import DataConfig


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
    cache_dir = cache_dir_of(config.cache_dir)
    tokens = cached_tokens(corpus, tokenizer, config.heldout_fraction, cache_dir, notify)
    for side, ids in (("training", tokens.train), ("held-out", tokens.heldout)):
        if len(ids) < (1 if config.packing == WHOLE else seq_len + 1):
            raise errors.too_short(side, corpus.source, len(ids), seq_len)
    return TokenData(tokens, tokenizer, seq_len=seq_len, seed=seed, batch_size=batch_size, packing=config.packing)


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

    def __init__(
        self,
        tokens: Sides,
        tokenizer: Tokenizer,
        *,
        seq_len: int,
        seed: int,
        batch_size: int,
        packing: str = STREAM,
    ) -> None:
        self.tokenizer = tokenizer
        self.packing = packing
        self.ignores = type(self).ignores or packing != STREAM
        self._tokens = tokens
        self._seq_len = seq_len
        self.seed = seed
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
    def corpora(self) -> tuple[str, ...]:
        """The identities that the tokenized corpora have in the token cache, where `levanter data ls` lists them."""
        return (self._tokens.key,)

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

    @property
    def num_heldout_windows(self) -> int:
        """Held-out sequences."""
        return self._windows_of(self._tokens.heldout)

    def identity_at(self, step: int) -> str:
        """A hash of the data that the first so many steps have read, or may have: what a checkpoint records. All of it,
        where all is there before the first step."""
        return self.identity_of(step * self._batch_size)

    def identity_of(self, rows: int) -> str:
        """The same for so many sequences, in the order of training."""
        return self.identity

    def train_batch(self, step: int) -> Batch:
        """The batch of training step `step`, counted from 0: always the same for the same seed."""
        return self.train_rows(step, range(self._batch_size))

    def train_rows(self, step: int, rows: Sequence[int] | np.ndarray) -> Batch:
        """Some rows of the batch of training step `step`: a process reads those of its own devices and no other.

        A pure function of the seed, the step and the rows: `train_rows(step, rows)` is `train_batch(step)` at `rows`.
        Where steps are asked for one after the other, the next ones are made ahead, in a thread of their own.

        Args:
            rows: numbers of rows, each below the size of a batch, in the order in which they are wanted.

        Returns: tokens and targets, each int32 [len(rows), position].
        """
        return self._upcoming(step, tuple(self._checked(step, rows).tolist()))

    @property
    def waited_seconds(self) -> float:
        """How long all calls for training batches have taken: less than it took to make them, which begins before."""
        return self._upcoming.waited_seconds

    def while_waiting(self, check: Callable[[], None]) -> None:
        """Call `check` now and then while a training batch is waited for; what it raises ends the wait."""
        self._upcoming.check = check

    @cached_property
    def _upcoming(self) -> Upcoming[Batch]:
        return Upcoming(lambda step, rows: self._rows(step, np.asarray(rows, np.int64)))

    def _rows(self, step: int, rows: np.ndarray) -> Batch:
        return self.sequences(step * self._batch_size + rows)

    def _checked(self, step: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Numbers of rows as an array, int64."""
        if step < 0:
            raise ValueError(f"a step is counted from 0, not {step}")
        numbers = np.asarray(rows, np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < self._batch_size:
            raise ValueError(f"the rows of a batch are 0 to {self._batch_size - 1}, not {numbers.tolist()}")
        return numbers

    def sequences(self, places: np.ndarray) -> Batch:
        """What stands at some places of the endless row of epochs, each in an order of its own.

        Args:
            places: int64, counted from 0: batch k of a run has k·batch … k·batch+batch-1.
        """
        return self._cut(self._tokens.train, self._in_order(places, self.num_train_windows))

    def _in_order(self, places: np.ndarray, count: int) -> np.ndarray:
        """Which of `count` sequences stand at some places."""
        epochs, places = np.divmod(places, count)
        windows = np.empty_like(places)
        for epoch in np.unique(epochs):
            of_epoch = epochs == epoch
            order = Permutation(count, f"window order, seed {self.seed}, epoch {epoch}")
            windows[of_epoch] = order(places[of_epoch])
        return windows

    def heldout_batches(self, n: int, batch_size: int) -> list[Batch]:
        """At most `n` full batches of held-out text, evenly spread over it: the same at every call, for every seed.

        Fewer where the text is short; one batch is always there, with windows repeated if need be, unless `n` is 0.
        """
        batches = self.num_heldout_batches(n, batch_size)
        rows = self.heldout_rows(batches * batch_size)
        return [tuple(part[i * batch_size : (i + 1) * batch_size] for part in rows) for i in range(batches)]

    def num_heldout_batches(self, n: int, batch_size: int) -> int:
        """How many batches `heldout_batches` has."""
        return min(n, max(1, self.num_heldout_windows // batch_size))

    def heldout_rows(self, count: int, rows: np.ndarray | None = None) -> Batch:
        """So many sequences of held-out text, evenly spread over it, repeated if need be.

        Args:
            rows: the numbers of those that are wanted, in ascending order; nothing else is read. Default: all.
        """
        available = self.num_heldout_windows
        wanted = np.arange(count, dtype=np.int64) if rows is None else rows
        return self._cut(self._tokens.heldout, wanted * max(available, count) // max(count, 1) % available)

    def heldout_parts(self, batches: int) -> dict[str, tuple[TokenData, int]]:
        """The sources of the held-out text by name, and how many of so many batches are each one's, at least one.
        Nothing where there is one source."""
        return {}

    def unigram_loss(self, batches: Sequence[Batch] | None = None) -> float:
        """Held-out cross entropy of the best model that ignores context, in nats a token: what training must beat.

        The model is the token frequencies of the training text with one added to every count, so that no token is
        impossible. It is judged on all held-out tokens, or on the targets of `batches`.
        """
        counts = self.unigram_counts + 1
        seen = np.zeros(self.vocab_size, np.int64)
        if batches is None:
            seen += self._tokens.heldout.counts(self.vocab_size)
        for _, targets, *_ in batches or ():
            seen += np.bincount(targets[targets >= 0], minlength=self.vocab_size)
        return float(-(seen @ np.log(counts / counts.sum())) / seen.sum())

    @cached_property
    def unigram_counts(self) -> np.ndarray:
        """How often each id is learned in the training text: int64 [vocab]."""
        return self._tokens.train.counts(self.vocab_size)

    def _windows_of(self, tokens: Any) -> int:
        """How many sequences a side has."""
        return self._packed(tokens).count

    def _cut(self, tokens: Any, windows: np.ndarray) -> Batch:
        """The sequences of a side that have the numbers `windows`."""
        return self._packed(tokens).cut(windows)

    def _packed(self, tokens: Any) -> Packing:
        return self._training if tokens is self._tokens.train else self._held_out

    @cached_property
    def _training(self) -> Packing:
        return packed(self.packing, self._tokens.train, self._seq_len, self.tokenizer.end_of_text)

    @cached_property
    def _held_out(self) -> Packing:
        return packed(self.packing, self._tokens.heldout, self._seq_len, self.tokenizer.end_of_text)
