"""Steps of a run made again, from a checkpoint or from the start, without touching the run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from levanter import data as text
from levanter.checkpoint.locations import Location
from levanter.compiler.compile import Compiled
from levanter.config import TrainConfig
from levanter.runtime import rewinds, starting
from levanter.runtime.run_directory import RunDirectory
from levanter.runtime.state import LmBatch, Metrics, TrainState, batch_axes, named_batch


class Rerun:
    """Makes steps as the run made them.

    Args:
        config: as the run had it at these steps, with what was fixed at its start.
    """

    def __init__(self, config: TrainConfig, run: RunDirectory, tokens: text.TokenData, compiled: Compiled) -> None:
        self.config, self.compiled = config, compiled
        self.run, self.tokens = run, tokens
        self._left_out = rewinds.read(run.path)

    def state(self, checkpoint: Location | None) -> TrainState:
        """The state of a checkpoint, or that before the first step."""
        if checkpoint is not None:
            return starting.loaded(self.config, checkpoint, self.compiled)
        with tempfile.TemporaryDirectory() as scratch:
            return starting.first_state(self.config, self.run, self.compiled, Path(scratch))

    def batch(self, step: int) -> LmBatch:
        """What the step after `step` steps reads."""
        arrays = self.tokens.train_batch(self._left_out.batch_of(step))
        return self.place(arrays)

    def place(self, arrays: tuple[np.ndarray, ...]) -> LmBatch:
        """A batch on the devices."""
        return jax.device_put(named_batch(arrays, batch_axes(self.config)), self.compiled.batch_shardings)

    def after(self, state: TrainState, start: int, end: int) -> TrainState:
        """The state after `end` steps, from that after `start`; `state` is given up."""
        for step in range(start, end):
            state, _ = self.compiled.train_step(state, self.batch(step))
        return state

    def steps(self, state: TrainState, start: int, end: int) -> Iterator[tuple[int, TrainState, Metrics]]:
        """The steps from `start` (done) to `end`: the number of each, the state after it (which the next one takes
        over), and its numbers."""
        for step in range(start, end):
            state, metrics = self.compiled.train_step(state, self.batch(step))
            yield step + 1, state, metrics
