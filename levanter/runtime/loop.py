"""The steps of a run, and what happens between them.

The loop keeps the devices busy: a step is dispatched and not waited for; while it runs the next batch is made, and the
numbers of the step before are fetched and logged.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import jax
import numpy as np

from levanter import data as text
from levanter.checkpoint import Checkpointer
from levanter.compiler.compile import Compiled
from levanter.config import TrainConfig, dump
from levanter.data.packing import Batch
from levanter.processes.agreement import Agreement
from levanter.processes.arrays import from_rows, rows_here
from levanter.processes.group import ALONE, Group
from levanter.runtime import elsewhere, errors, evaluate, garbage, own_code
from levanter.runtime.course import Course
from levanter.runtime.heldout import LOSS, HeldOut, Rows
from levanter.runtime.instruments import Instruments
from levanter.runtime.state import (
    LmBatch,
    Metrics,
    TrainState,
    batch_axes,
    batch_shape,
    flat_names,
    named_batch,
    state_shape,
)
from levanter.runtime.stop import StopRequested, StopSignal, Together
from levanter.trackers.scalars import plain
from levanter.trackers.trackers import Trackers


class Loop:
    """The steps of a run, and what happens between them: logging, evaluation, checkpoints."""

    def __init__(
        self,
        config: TrainConfig,
        tokens: text.TokenData,
        compiled: Compiled,
        checkpointer: Checkpointer,
        trackers: Trackers,
        instruments: Instruments,
        course: Course | None = None,
        members: Group = ALONE,
    ) -> None:
        self._trainer = config.trainer
        self._tokens = tokens
        code = own_code.digests(config)
        self._made_by = {elsewhere.KEY: elsewhere.identity(dump(config)), **({own_code.KEY: code} if code else {})}
        self._compiled = compiled
        self._checkpointer = checkpointer
        self._trackers = trackers
        self._members = members
        self._agreement = Agreement(members)
        self._alone = members.count == 1
        self._course = course or Course()
        self._stop = StopSignal()
        self._unlogged: dict[str, Any] | None = None
        self._instruments = instruments
        self._pace = instruments.pace
        self._axes = batch_axes(config)
        # Only where other weights are evaluated than are trained does an evaluation read the optimizer's state.
        self._evaluated = (lambda state: state) if config.optimizer.averages else (lambda state: state.model)
        step = evaluate.eval_step_of(config) if config.optimizer.averages else evaluate.eval_step
        self._evaluation = compiled.lower_for(step, self._evaluated(state_shape(config)), batch_shape(config))
        self._evaluation_compiled = False
        self._last_heldout_loss: float | None = None
        trainer = config.trainer
        self.heldout = HeldOut(tokens, trainer.eval_batches, trainer.train_batch_size, self._placed)

    def run(self, state: TrainState, step: int, stop: StopSignal) -> tuple[TrainState, int]:
        """Make the steps that are left, or those until `stop`; returns the state and the steps it has done."""
        last = self._trainer.num_train_steps
        if self._tokens.ignores:
            self._check_ignored(state)
        self._stop = stop
        if self._course.unlogged is not None:
            self._log(step, dict(self._course.unlogged), state)
        running: tuple[int, Metrics] | None = None
        first = True
        self._instruments.start(step)
        if step < last:
            self._checkpointer.prepare(flat_names(state))
        batch = self._batch(step)
        if self._alone:
            self._tokens.while_waiting(stop.check)
        agreed = self._agreed(step, stop)
        while step < last and "stop" not in agreed:
            if first and not self._alone:
                self._compile_together(state, batch)
            watched = self._instruments.before_step(step + 1, state, batch)
            state, metrics = self._compiled.train_step(state, batch)
            metrics = {**metrics, **watched}
            if first:
                # The call has compiled the step and returns while the devices make it: from here time is training's.
                self._instruments.compiled()
                self._pace.pause()
                self._trackers.compiled()
                garbage.collect_as_usual()
                stop.begun()
                first = False
            step += 1
            # From here to the fetch of the numbers, the host works while the devices do.
            began = time.perf_counter()
            with contextlib.suppress(StopRequested):  # which `agreed` knows of
                batch = self._batch(step) if step < last else batch
            self._pace.waited_for_data(time.perf_counter() - began, idle=metrics["loss"].is_ready())
            self._instruments.after_step(step, metrics)
            if running is not None:
                self._record(*running)
            running = step, metrics
            agreed = self._agreed(step, stop)
            evaluating = self._evaluation_due(step)
            reading = self._instruments.read_state(step)
            saving = self._checkpointer.due(step, "save" in agreed)
            if evaluating or reading or saving:
                self._record(step, metrics, state if evaluating else None, state if reading else None)
                running = None
                if saving:
                    self._save(step, state)
                self._pace.pause()
                if self.unfinished:
                    break
        if running is not None:
            self._record(*running)
        self._save(step, state)
        self._instruments.end(step, state.step)
        return state, step

    def _compile_together(self, state: TrainState, batch: LmBatch) -> None:
        """Compile the step, and wait until all processes have: where they exchange data for the first time, gloo waits
        half a minute for those that are behind, and no longer."""
        step: Any = self._compiled.train_step
        step.lower(state, batch).compile()  # the call finds this program
        self._members.exchange("compiled")

    def _agreed(self, step: int, stop: StopSignal) -> set[str]:
        """What all processes do after `step` steps: "stop", "save"."""
        wishes = {"stop"} if stop.requested else set[str]()
        if self._checkpointer.due_by_time():
            wishes.add("save")
        return self._agreement.due(step, wishes)

    def _check_ignored(self, state: TrainState) -> None:
        """Hold the model's loss against targets that are all ignored: a model of one's own may not know of them.

        Raises:
            UserError: the loss is not 0.
        """

        def ignored(rows: np.ndarray) -> Batch:
            tokens, targets, *apart = self._tokens.train_rows(0, rows)
            return tokens, np.full_like(targets, -1), *apart

        nothing = self._placed(ignored)
        if float(self._evaluate(self._evaluated(state), nothing)) != 0.0:
            raise errors.learns_from_ignored(type(state.model).__name__)

    def final_heldout_loss(self, state: TrainState) -> float | None:
        """The loss of the last state on the held-out batches, or None where evaluation is off."""
        if not self.heldout:
            return None
        # The last step is always evaluated, unless this process had no step left to make.
        return self._measure(state)[LOSS] if self._last_heldout_loss is None else self._last_heldout_loss

    def _measure(self, state: TrainState) -> dict[str, float]:
        """The losses on the held-out batches.

        Raises:
            StopRequested: a signal cuts it short, in all processes before the same batch.
        """
        check = self._stop.check if self._alone else Together(self._members, self._stop).check
        return self.heldout.losses(self._evaluate, self._evaluated(state), check)

    def _evaluate(self, model: Any, batch: LmBatch) -> jax.Array:
        began = time.perf_counter()
        loss = self._evaluation(model, batch)
        if not self._evaluation_compiled:
            # As with the step, the first call returns when it has compiled.
            self._instruments.compiled()
            self._trackers.lost(time.perf_counter() - began)
            self._evaluation_compiled = True
        return loss

    def _evaluation_due(self, step: int) -> bool:
        every = self._trainer.eval_every
        return bool(self.heldout) and (step == self._trainer.num_train_steps or (every > 0 and step % every == 0))

    def _record(
        self, step: int, metrics: Metrics, state: TrainState | None = None, read: TrainState | None = None
    ) -> None:
        """Log a step: wait for its numbers, evaluate `state` if there is one, and show `read` to who reads it.

        Raises:
            NotFinite: the loss or the gradient is not finite.
        """
        values = jax.device_get(metrics)
        numbers = {**values, **self._pace.tick()}
        if (problem := self._course.watch.problem(step, values)) is not None:
            self._trackers.log(step, numbers)
            self._instruments.broken_off()
            raise problem
        self._log(step, numbers, state, read)

    def _log(
        self, step: int, numbers: dict[str, Any], state: TrainState | None, read: TrainState | None = None
    ) -> None:
        """Log a step, with the held-out loss of `state` if there is one. Where a signal cuts that short, the numbers
        are kept for the checkpoint: who resumes from it logs them."""
        self._unlogged = None
        if state is not None:
            try:
                numbers |= self._measure(state)
                self._last_heldout_loss = numbers[LOSS]
            except StopRequested:
                self._unlogged = {name: plain(value) for name, value in numbers.items()}
                return
        numbers |= self._instruments.seen(step, numbers, read)
        self._trackers.log(step, numbers)

    def _save(self, step: int, state: TrainState) -> None:
        if step > 0:
            began = time.perf_counter()
            self._trackers.sync()
            course = self._course.metadata(step, self._unlogged)
            self._checkpointer.save(
                step, flat_names(state), {"data": self._tokens.identity_at(step), **self._made_by, **course}
            )
            self._pace.stalled(time.perf_counter() - began)

    @property
    def unfinished(self) -> bool:
        """Whether the last evaluation was cut short."""
        return self._unlogged is not None

    def _batch(self, step: int) -> LmBatch:
        """What the step after `step` steps reads; a process makes those of its rows that its devices hold."""
        number = self._course.rewinds.batch_of(step)
        return self._placed(lambda rows: self._tokens.train_rows(number, rows))

    def _placed(self, read: Rows) -> LmBatch:
        """A batch on the devices as the plan says, of which this process reads the rows of its devices."""
        if self._alone:
            batch = read(np.arange(self._trainer.train_batch_size))
            return jax.device_put(named_batch(batch, self._axes), self._compiled.batch_shardings)
        shape = tuple(axis.size for axis in self._axes)
        rows = rows_here(self._compiled.batch_shardings.tokens.array, shape)
        batch = read(rows)
        found = self._compiled.batch_shardings
        shardings = [each.array for each in (found.tokens, found.targets, found.segments) if each is not None]
        placed = (from_rows(sharding, shape, rows, values) for sharding, values in zip(shardings, batch, strict=True))
        return named_batch(list(placed), self._axes)
