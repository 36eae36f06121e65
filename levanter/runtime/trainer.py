"""A run, from its configuration to a trained model.

    data → compiled step → state (new, or from the newest whole checkpoint) → the loop → held-out loss and a sample

The loop keeps the devices busy: a step is dispatched and not waited for; while it runs the next batch is made, and the
numbers of the step before are fetched and logged. Nothing it does changes a bit of the run: the same config gives the
same losses and weights however often it was killed and started again.
"""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import draccus
import jax
import numpy as np
from rich.console import Console

from haliax import NamedArray
from levanter import data as text
from levanter.checkpoint import Checkpointer, latest, load, read_manifest
from levanter.compiler.compile import Compiled, compile_training
from levanter.config import TrainConfig, dump
from levanter.hf.runs import is_imported, starting_model
from levanter.models.errors import vocabulary_too_small
from levanter.runtime import errors, evaluate, memory, own_code, summary
from levanter.runtime.command import Command
from levanter.runtime.run_directory import Difference, RunDirectory, open_run
from levanter.runtime.run_names import beside, default_directory
from levanter.runtime.state import (
    LmBatch,
    Metrics,
    TrainState,
    batch_axes,
    batch_shape,
    evaluated_model,
    flat_names,
    from_flat_names,
    init_state,
    state_shape,
)
from levanter.trackers.config import TrackedRun
from levanter.trackers.trackers import Trackers, open_trackers


def train(config: TrainConfig, console: Console | None = None, command: Command | None = None) -> TrainState:
    """Train as `config` says, or resume a run that was stopped, and return the last state.

    Ctrl-C or SIGTERM ends the run after the step it is in, with a checkpoint.

    Args:
        command: what the user typed, for hints and refusals to repeat; default: one that reads the run's own config.

    Raises:
        KeyboardInterrupt: the run was stopped so; everything is saved.
        UserError: the data, the run directory or a checkpoint cannot be used.
        WorkFailed: the loss is no longer a number, or a checkpoint cannot be written.
    """
    console = console or Console()
    memory.check_state(config)
    with memory.explained(config), opened_run(config, console, command) as run:
        command = command or Command(("train", "--config", str(run.config_path)))
        tokens = text.build(
            config.data,
            seq_len=config.model.seq_len,
            seed=config.trainer.seed,
            batch_size=config.trainer.train_batch_size,
        )
        if tokens.vocab_size > config.model.vocab_size:
            raise vocabulary_too_small(config.model.vocab_size, tokens.vocab_size)
        compiled = compile_training(config)
        state, step = starting_state(config, run, tokens, compiled, console)
        with (
            Checkpointer(run.checkpoints_path, config.trainer.checkpoint, resumed_step=step or None) as checkpointer,
            open_trackers(
                config.trackers,
                TrackedRun(
                    directory=run,
                    config=draccus.encode(config),
                    resumed_step=step,
                    total_steps=config.trainer.num_train_steps,
                    console=console,
                ),
            ) as trackers,
            StopSignal() as stop,
        ):
            loop = Loop(config, tokens, compiled, checkpointer, trackers)
            state, step = loop.run(state, step, stop)
        if step < config.trainer.num_train_steps:
            summary.stopped(console, run.path, step, config.trainer.num_train_steps)
            raise KeyboardInterrupt
        heldout_loss = loop.final_heldout_loss(state)
        model = evaluated_model(config, state)
        summary.ended(console, command, config, run.path, tokens, model, heldout_loss, loop.heldout)
        return state


def opened_run(config: TrainConfig, console: Console, command: Command | None) -> AbstractContextManager[RunDirectory]:
    """The run directory that the config names, or the default one for it.

    Raises:
        UserError: see `open_run`.
    """
    if config.trainer.run_dir is None:
        path, note = default_directory(Path("runs"), config.trainer.run_name or "run", dump(config))
        if note:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        return open_run(path, dump(config))
    path = Path(config.trainer.run_dir)

    def another(changed: list[Difference]) -> str:
        assert command is not None
        return command.text(run_dir=beside(path, changed))

    return open_run(path, dump(config), another=another if command else None)


def starting_state(
    config: TrainConfig, run: RunDirectory, tokens: text.TokenData, compiled: Compiled, console: Console
) -> tuple[TrainState, int]:
    """The state to resume from and its step: of the newest complete checkpoint, or new where there is none.

    A new one has imported weights where the run directory has them or the config names them, else random ones.
    """
    problems: list[str] = []
    checkpoint = latest(run.checkpoints_path, problems)
    for problem in problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    manifest = None if checkpoint is None else read_manifest(checkpoint)
    if checkpoint is None or manifest is None or is_imported(manifest):
        model = starting_model(config, run.path, checkpoint, compiled.state_shardings.model)
        return init_state(config, compiled.state_shardings, model), 0

    if manifest.metadata.get("data") != tokens.identity:
        raise errors.other_data(checkpoint)
    for file in own_code.changed(manifest.metadata.get(own_code.KEY, {}), config):
        console.print(errors.code_changed(file, checkpoint), markup=False, highlight=False, soft_wrap=True)
    if manifest.step > config.trainer.num_train_steps:
        raise errors.past_the_end(checkpoint, manifest.step, config.trainer.num_train_steps)
    shapes = state_shape(config)
    arrays = load(checkpoint, like=flat_names(shapes), shardings=flat_names(compiled.state_shardings))
    console.print(f"going on from {checkpoint}", markup=False, highlight=False, soft_wrap=True)
    return from_flat_names(shapes, arrays), manifest.step


class Loop:
    """The steps of a run, and what happens between them: logging, evaluation, checkpoints."""

    def __init__(
        self,
        config: TrainConfig,
        tokens: text.TokenData,
        compiled: Compiled,
        checkpointer: Checkpointer,
        trackers: Trackers,
    ) -> None:
        self._trainer = config.trainer
        self._learning_rate = config.optimizer.learning_rate
        self._tokens = tokens
        code = own_code.digests(config)
        self._code = {own_code.KEY: code} if code else {}
        self._compiled = compiled
        self._checkpointer = checkpointer
        self._trackers = trackers
        self._axes = batch_axes(config)
        self._pace = Pace(config.trainer.train_batch_size * config.model.seq_len)
        # Only where other weights are evaluated than are trained does an evaluation read the optimizer's state.
        self._evaluated = (lambda state: state) if config.optimizer.averages else (lambda state: state.model)
        step = evaluate.eval_step_of(config) if config.optimizer.averages else evaluate.eval_step
        self._evaluation = compiled.lower_for(step, self._evaluated(state_shape(config)), batch_shape(config))
        self._evaluation_compiled = False
        self._last_heldout_loss: float | None = None
        self.heldout = tokens.heldout_batches(config.trainer.eval_batches, config.trainer.train_batch_size)

    def run(self, state: TrainState, step: int, stop: StopSignal) -> tuple[TrainState, int]:
        """Make the steps that are left, or those until `stop`; returns the state and the steps it has done."""
        last = self._trainer.num_train_steps
        if self._tokens.ignores:
            self._check_ignored(state)
        running: tuple[int, Metrics] | None = None
        first = True
        batch = self._place(self._tokens.train_batch(step))
        while step < last and not stop.requested:
            state, metrics = self._compiled.train_step(state, batch)
            if first:
                # The call has compiled the step and returns while the devices make it: from here time is training's.
                self._pace.pause()
                self._trackers.compiled()
                first = False
            step += 1
            # From here to the fetch of the numbers, the host works while the devices do.
            batch = self._place(self._tokens.train_batch(step))
            if running is not None:
                self._record(*running)
            running = step, metrics
            evaluating = self._evaluation_due(step)
            if evaluating or self._checkpointer.due(step):
                self._record(step, metrics, state if evaluating else None)
                running = None
                self._save(step, state)
                self._pace.pause()
        if running is not None:
            self._record(*running)
        self._save(step, state, even_if_not_due=True)
        return state, step

    def _check_ignored(self, state: TrainState) -> None:
        """Hold the model's loss against targets that are all ignored: a model of one's own may not know of them.

        Raises:
            UserError: the loss is not 0.
        """
        tokens, targets = self._tokens.train_batch(0)
        if float(self._evaluate(self._evaluated(state), self._place((tokens, np.full_like(targets, -1))))) != 0.0:
            raise errors.learns_from_ignored(type(state.model).__name__)

    def final_heldout_loss(self, state: TrainState) -> float | None:
        """The loss of the last state on the held-out batches, or None where evaluation is off."""
        if not self.heldout:
            return None
        # The last step is always evaluated, unless this process had no step left to make.
        return self._measure(state) if self._last_heldout_loss is None else self._last_heldout_loss

    def _measure(self, state: TrainState) -> float:
        batches = [self._place(batch) for batch in self.heldout]
        return evaluate.heldout_loss(self._evaluate, self._evaluated(state), batches)

    def _evaluate(self, model: Any, batch: LmBatch) -> jax.Array:
        began = time.perf_counter()
        loss = self._evaluation(model, batch)
        if not self._evaluation_compiled:
            # As with the step, the first call returns when it has compiled.
            self._trackers.lost(time.perf_counter() - began)
            self._evaluation_compiled = True
        return loss

    def _evaluation_due(self, step: int) -> bool:
        every = self._trainer.eval_every
        return bool(self.heldout) and (step == self._trainer.num_train_steps or (every > 0 and step % every == 0))

    def _record(self, step: int, metrics: Metrics, state: TrainState | None = None) -> None:
        """Log a step: wait for its numbers, and evaluate `state` if there is one.

        Raises:
            WorkFailed: the loss or the gradient is not finite.
        """
        values = jax.device_get(metrics)
        numbers = {**values, "tokens_per_second": self._pace.tick()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                self._trackers.log(step, numbers)
                raise errors.not_finite(step, name, float(values[name]), self._learning_rate)
        if state is not None:
            numbers["heldout_loss"] = self._last_heldout_loss = self._measure(state)
        self._trackers.log(step, numbers)

    def _save(self, step: int, state: TrainState, even_if_not_due: bool = False) -> None:
        if step > 0 and (even_if_not_due or self._checkpointer.due(step)):
            self._trackers.sync()
            self._checkpointer.save(step, flat_names(state), {"data": self._tokens.identity, **self._code})

    def _place(self, batch: tuple[np.ndarray, np.ndarray]) -> LmBatch:
        """A batch of numpy arrays, on the devices as the plan says."""
        tokens, targets = (NamedArray(array, self._axes) for array in batch)
        return jax.device_put(LmBatch(tokens, targets), self._compiled.batch_shardings)


class Pace:
    """Tokens per second over the last steps; what happens between `pause` and the next step does not count."""

    def __init__(self, tokens_per_step: int, window: int = 20) -> None:
        self._tokens_per_step = tokens_per_step
        self._seconds: deque[float] = deque(maxlen=window)
        self._last = time.perf_counter()

    def tick(self) -> float:
        """A step has ended."""
        now = time.perf_counter()
        self._seconds.append(now - self._last)
        self._last = now
        return round(self._tokens_per_step * len(self._seconds) / sum(self._seconds), 1)

    def pause(self) -> None:
        """Something other than a step has ended."""
        self._last = time.perf_counter()


class StopSignal:
    """While it is entered, Ctrl-C and SIGTERM ask for a stop instead of ending the process; a second one ends it."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._request)
            except ValueError:
                break  # Python hands out signals in the main thread only; elsewhere they work as they did.
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
