"""How many rows of which source: exactly by weight, and a pure function of the step.

After k rows of a stage a source with the share s has had the whole part of k·s rows, more or less one: the shares stand
one after the other from 0 to 1, and a source has the whole numbers between k times where it begins and k times where it
ends. Fractions are exact, so that nothing drifts, however long the run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate

import numpy as np

from levanter.data.permutation import Permutation


class Shares:
    """The rows of every step.

    Args:
        names: the sources, in order.
        stages: from which step on there are which weights by name; the first from step 0.
        batch_size: rows of a step.
        seed: fixes which rows of a batch are of which source.
    """

    def __init__(
        self, names: Sequence[str], stages: Sequence[tuple[int, Mapping[str, float]]], batch_size: int, seed: int
    ) -> None:
        self._batch_size = batch_size
        self._seed = seed
        self._firsts = [first for first, _ in stages]
        self._bounds = [_bounds([Fraction(weights.get(name, 0)) for name in names]) for _, weights in stages]
        self._before = [[0] * len(names)]  # rows of each source before each stage
        for stage, (first, last) in enumerate(zip(self._firsts, self._firsts[1:], strict=False)):
            rows = self._counts(stage, (last - first) * batch_size)
            self._before.append([before + own for before, own in zip(self._before[-1], rows, strict=True)])

    def before(self, step: int) -> list[int]:
        """How many rows of each source there are in the steps before `step`."""
        stage = bisect_right(self._firsts, step) - 1
        own = self._counts(stage, (step - self._firsts[stage]) * self._batch_size)
        return [before + count for before, count in zip(self._before[stage], own, strict=True)]

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """For each row of a step its source, and its number among all rows of that source: int64 [batch] each."""
        before, after = self.before(step), self.before(step + 1)
        sources = np.concatenate([np.full(b - a, i) for i, (a, b) in enumerate(zip(before, after, strict=True))])
        numbers = np.concatenate([np.arange(a, b, dtype=np.int64) for a, b in zip(before, after, strict=True)])
        order = Permutation(self._batch_size, f"rows of a mixture, seed {self._seed}, step {step}")
        at = order(np.arange(self._batch_size))
        return sources.astype(np.int64)[at], numbers[at]

    def _counts(self, stage: int, rows: int) -> list[int]:
        """How many of the first rows of a stage are of each source."""
        marks = [int(rows * bound) for bound in self._bounds[stage]]
        return [after - before for before, after in zip(marks, marks[1:], strict=False)]


def _bounds(weights: Sequence[Fraction]) -> list[Fraction]:
    """Where the shares begin, and where the last one ends."""
    total = sum(weights)
    return [Fraction(0), *(reached / total for reached in accumulate(weights))]
