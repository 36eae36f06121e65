"""How likely a model finds given tokens: the logarithm of the probability of each, given those before it.

Rows of one batch are padded to a common length, and a target that is not asked for is negative: the same mark that the
loss has for it. The logits are made and reduced for a few places at a time, since they are by far the largest array.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

import haliax as hax
from haliax import Axis, NamedArray
from levanter.inference.generate import BATCH, Placement
from levanter.models.lm_model import LmModel
from levanter.models.loss import IGNORED, LOWEST

_MULTIPLE = 64
_LOGITS = 1 << 24
"""Scores that are held at once, of all rows."""


@dataclass(frozen=True)
class Row:
    """Tokens of a text, of which those from `first` on (1 or more) are asked for, each given all before it."""

    tokens: Sequence[int] | np.ndarray
    first: int


@dataclass(frozen=True)
class Score:
    """Of the tokens that a row asks for: the sum of their log probabilities in nats, their number, and whether each is
    the likeliest one at its place."""

    log_likelihood: float
    count: int
    greedy: bool


class Scorer:
    """Scores rows with one model, in batches of `batch_size`.

    Args:
        vocab_size: ids from here on are padding and take no probability.
        place: lays out what a batch is; None is one device.
    """

    def __init__(self, model: LmModel, vocab_size: int, batch_size: int = 8, place: Placement | None = None) -> None:
        self._model, self._batch_size, self._place = model, batch_size, place or (lambda tree: tree)
        self._vocab_size = min(vocab_size, model.Vocab.size)
        self._program = jax.jit(self._scored)

    @property
    def longest(self) -> int:
        """The most tokens of a row: one more than the model reads."""
        return self._model.Pos.size + 1

    def __call__(self, rows: Iterable[Row]) -> Iterator[Score]:
        """The score of each row, in order; a row has at most `longest` tokens."""
        batch: list[Row] = []
        for row in rows:
            batch.append(row)
            if len(batch) == self._batch_size:
                yield from self._scores(batch)
                batch = []
        if batch:
            yield from self._scores(batch)

    def _scores(self, rows: Sequence[Row]) -> Iterator[Score]:
        longest = max(len(row.tokens) for row in rows) - 1
        width = min(-(-longest // _MULTIPLE) * _MULTIPLE, self._model.Pos.size)
        # A batch that is not full has rows that ask for nothing, so that it needs no program of its own.
        tokens = np.zeros((self._batch_size, width), np.int32)
        targets = np.full((self._batch_size, width), IGNORED, np.int32)
        for place, row in enumerate(rows):
            ids, first = np.asarray(row.tokens, np.int32), row.first
            tokens[place, : len(ids) - 1] = ids[:-1]
            targets[place, first - 1 : len(ids) - 1] = ids[first:]
        axes = (Axis(BATCH, self._batch_size), self._model.Pos.resize(width))
        batch = (NamedArray(jnp.asarray(each), axes) for each in (tokens, targets))
        sums, greedy = jax.device_get(self._program(self._model, *batch))
        counts = (targets >= 0).sum(axis=1)
        for place in range(len(rows)):
            yield Score(float(sums[place]), int(counts[place]), bool(greedy[place]))

    def _scored(self, model: LmModel, tokens: NamedArray, targets: NamedArray) -> tuple[jax.Array, jax.Array]:
        """The sum and whether all are the likeliest, of each row: float32 [batch] and bool [batch]."""
        tokens, targets = self._place((tokens, targets))
        x = model.activations(tokens, key=None)
        Pos = targets.resolve_axis(model.Pos.name)
        Part = Pos.resize(_places_at_once(Pos.size, self._batch_size * model.Vocab.size))

        def part(start: jax.Array) -> tuple[jax.Array, jax.Array]:
            of_part = {Pos.name: hax.dslice(start, Part)}
            return self._part(model, x[of_part], targets[of_part])

        starts = jnp.arange(0, Pos.size, Part.size)
        sums, greedy = jax.lax.map(part, starts)
        return jnp.sum(sums, axis=0), jnp.all(greedy, axis=0)

    def _part(self, model: LmModel, x: NamedArray, targets: NamedArray) -> tuple[jax.Array, jax.Array]:
        Vocab, asked = model.Vocab, targets >= 0
        Pos = targets.resolve_axis(model.Pos.name)
        scores = model.logits(x).astype(jnp.float32)
        scores = hax.where(hax.arange(Vocab) < self._vocab_size, scores, LOWEST)
        highest = hax.max(scores, Vocab)
        normalizer = hax.log(hax.sum(hax.exp(scores - highest), Vocab)) + highest
        of_target = scores[Vocab.name, hax.maximum(targets, 0)]
        sums = hax.sum(hax.where(asked, of_target - normalizer, 0.0), Pos)
        likeliest = hax.argmax(scores, Vocab) == targets
        return sums.array, hax.all(likeliest | ~asked, Pos).array


def _places_at_once(places: int, scores_of_each: int) -> int:
    """The largest divisor of `places` whose scores are no more than are to be held at once."""
    most = max(1, _LOGITS // scores_of_each)
    return next(size for size in range(min(most, places), 0, -1) if places % size == 0)
