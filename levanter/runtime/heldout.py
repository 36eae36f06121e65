"""Evaluations of a run: batches of held-out text, of which each process reads the rows of its devices and no others.

`heldout_loss` is over rows of the whole held-out text. Where that has several sources, `heldout_loss/NAME` is of each
by itself: by the share of the batches that it has, and at least one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from levanter.data.packing import Batch
from levanter.data.token_data import TokenData
from levanter.runtime import evaluate
from levanter.runtime.evaluate import EvalStep
from levanter.runtime.state import LmBatch

LOSS = "heldout_loss"
Rows = Callable[[np.ndarray], Batch]
"""Some rows of a batch, by their numbers."""
Place = Callable[[Rows], LmBatch]
"""A batch on the devices, from those of its rows that this process has devices for."""


class HeldOut:
    """The held-out batches of a run.

    Args:
        most: batches of an evaluation, where the text has so many.
    """

    def __init__(self, tokens: TokenData, most: int, batch_size: int, place: Place) -> None:
        self._tokens, self._batch_size, self._place = tokens, batch_size, place
        self._count = tokens.num_heldout_batches(most, batch_size)
        self._parts = tokens.heldout_parts(self._count) if self._count else {}

    def __bool__(self) -> bool:
        return self._count > 0

    def losses(self, step: EvalStep, model: Any, check: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Mean losses by name, in nats per target; see `levanter.runtime.evaluate.heldout_loss`."""
        found = {LOSS: self._loss(self._tokens, self._count, step, model, check)}
        for name, (part, batches) in self._parts.items():
            found[f"{LOSS}/{name}"] = self._loss(part, batches, step, model, check)
        return found

    def whole(self) -> list[Batch]:
        """All rows, for statistics; not what an evaluation reads."""
        return self._tokens.heldout_batches(self._count, self._batch_size)

    def _loss(self, tokens: TokenData, batches: int, step: EvalStep, model: Any, check: Callable[[], None]) -> float:
        return evaluate.heldout_loss(step, model, self._batches(tokens, batches), check)

    def _batches(self, tokens: TokenData, batches: int) -> Iterator[LmBatch]:
        size = self._batch_size
        for first in range(0, batches * size, size):
            yield self._place(lambda rows, first=first: tokens.heldout_rows(batches * size, first + rows))
