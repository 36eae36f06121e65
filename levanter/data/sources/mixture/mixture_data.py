"""Batches of a mixture: rows of its sources, each from where that source has got to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from levanter.data.packing import Batch
from levanter.data.sources.mixture.shares import Shares
from levanter.data.token_data import TokenData


class MixtureData(TokenData):
    """Training and held-out batches of several sources.

    Args:
        parts: the data of each source by name, with one tokenizer, sequence length and seed.
        stages: from which step on there are which weights by name.
    """

    def __init__(
        self, parts: Mapping[str, TokenData], stages: Sequence[tuple[int, Mapping[str, float]]], *, batch_size: int
    ) -> None:
        first = next(iter(parts.values()))
        self.tokenizer = first.tokenizer
        self.packing = first.packing
        self.ignores = any(part.ignores for part in parts.values())
        self.parts = dict(parts)
        self._stages = list(stages)
        self._batch_size = batch_size
        self._shares = Shares(list(parts), stages, batch_size, first.seed)

    @property
    def identity(self) -> str:
        return self._identity({name: part.identity for name, part in self.parts.items()})

    @property
    def corpora(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each for part in self.parts.values() for each in part.corpora))

    def identity_at(self, step: int) -> str:
        rows = self.shares(step)
        return self._identity({name: part.identity_of(rows[name]) for name, part in self.parts.items()})

    def _identity(self, identities: Mapping[str, str]) -> str:
        told = ["mixture", 1, identities, list(identities), self._stages]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @property
    def num_train_tokens(self) -> int:
        return sum(part.num_train_tokens for part in self.parts.values())

    @property
    def num_heldout_tokens(self) -> int:
        return sum(part.num_heldout_tokens for part in self.parts.values())

    @property
    def num_train_windows(self) -> int:
        return sum(part.num_train_windows for part in self.parts.values())

    @property
    def num_heldout_windows(self) -> int:
        return sum(part.num_heldout_windows for part in self.parts.values())

    @property
    def unigram_counts(self) -> np.ndarray:  # type: ignore[override]
        return sum((part.unigram_counts for part in self.parts.values()), np.zeros(self.vocab_size, np.int64))

    def shares(self, step: int) -> dict[str, int]:
        """How many rows of each source there are in the steps before `step`."""
        return dict(zip(self.parts, self._shares.before(step), strict=True))

    def _rows(self, step: int, rows: np.ndarray) -> Batch:
        sources, numbers = (each[rows] for each in self._shares.rows(step))
        return self._gathered(sources, lambda part, mine: part.sequences(numbers[mine]))

    def heldout_rows(self, count: int, rows: np.ndarray | None = None) -> Batch:
        """So many held-out sequences, of each source by the weights that the run ends with, one source after another.
        See `TokenData`."""
        each = self._final(max(count, 1))
        wanted = np.arange(count) if rows is None else rows
        sources = np.repeat(np.arange(len(self.parts)), each)[wanted]
        own = wanted - (np.cumsum(each) - np.array(each))[sources]
        sizes = {id(part): size for part, size in zip(self.parts.values(), each, strict=True)}
        return self._gathered(sources, lambda part, mine: part.heldout_rows(sizes[id(part)], own[mine]))

    def heldout_parts(self, batches: int) -> dict[str, tuple[TokenData, int]]:
        each = zip(self.parts.items(), self._final(batches), strict=True)
        return {name: (part, max(1, share)) for (name, part), share in each}

    def _final(self, count: int) -> list[int]:
        """How many of so many rows are of each source, by the weights that the run ends with."""
        return Shares(list(self.parts), [(0, self._stages[-1][1])], count, 0).before(1)

    def unigram_loss(self, batches: Sequence[Batch] | None = None) -> float:
        """See `TokenData`; where no batches are given, of all held-out sequences of all sources."""
        given = batches if batches is not None else [self.heldout_rows(self.num_heldout_windows)]
        return super().unigram_loss(given)

    def _gathered(self, sources: np.ndarray, rows_of: Callable[[TokenData, np.ndarray], Batch]) -> Batch:
        """A batch whose rows are of these sources; `rows_of` gives those of one, for its places in the batch."""
        found: list[np.ndarray] = []
        for number, part in enumerate(self.parts.values()):
            mine = np.flatnonzero(sources == number)
            if not len(mine):
                continue
            arrays = rows_of(part, mine)
            found = found or [np.empty((len(sources), *array.shape[1:]), array.dtype) for array in arrays]
            for whole, array in zip(found, arrays, strict=True):
                whole[mine] = array
        return tuple(found)
