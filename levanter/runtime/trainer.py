"""A run, from its configuration to a trained model.

    data → compiled step → state (new, or from the newest whole checkpoint) → the loop → held-out loss and a sample

The same config gives the same losses and weights however often the run was killed and started again.
"""

from __future__ import annotations

import contextlib
import operator
import time
from collections.abc import Iterator, Sequence
from typing import Any

import draccus
from rich.console import Console

from levanter import data as text
from levanter.checkpoint import Checkpointer, Location
from levanter.checkpoint.directory import followed, keep_elsewhere
from levanter.compiler.compile import compile_training, with_choices
from levanter.compiler.plan_files import plan_followed
from levanter.config import TrainConfig
from levanter.errors import Interrupted, UserError
from levanter.models.errors import vocabulary_too_small
from levanter.processes.arrays import by_the_first, check_devices
from levanter.processes.group import Group
from levanter.processes.starting import group, working
from levanter.runtime import compile_cache, errors, memory, rewinds, summary
from levanter.runtime.callbacks import Callback
from levanter.runtime.command import Command
from levanter.runtime.course import Course
from levanter.runtime.elsewhere import sole_writer
from levanter.runtime.instruments import Instruments
from levanter.runtime.loop import Loop
from levanter.runtime.nonfinite import NotFinite
from levanter.runtime.opening import fixed_values, opened_run
from levanter.runtime.pace import before
from levanter.runtime.profile import common
from levanter.runtime.record import open_choices, with_fixed
from levanter.runtime.run_directory import RunDirectory
from levanter.runtime.starting import starting_state
from levanter.runtime.state import TrainState, evaluated_model
from levanter.runtime.stop import StopSignal
from levanter.runtime.together import opened_by_the_first
from levanter.trackers.config import TrackedRun
from levanter.trackers.trackers import Trackers, open_trackers


def train(
    config: TrainConfig,
    console: Console | None = None,
    command: Command | None = None,
    run: RunDirectory | None = None,
    stop: StopSignal | None = None,
    callbacks: Sequence[Callback] = (),
    threads: int | None = None,
) -> TrainState:
    """Train as `config` says, or resume a run that was stopped, and return the last state.

    Ctrl-C, SIGTERM or SIGHUP ends the run after the step it is in, with a checkpoint.

    Args:
        command: what the user typed, for hints and refusals to repeat; default: one that reads the run's own config.
        run: the run directory, where the caller has opened it; default: the one that the config names.
        stop: the signals, where the caller listens to them already.
        callbacks: code of the caller's that looks on, see `levanter.runtime.callbacks`.
        threads: what `trainer.cpu_threads: null` means in a new run; default: the threads that XLA has for the CPU,
            which may be more in a process with others.

    Raises:
        Interrupted: the run was stopped with Ctrl-C; everything is saved.
        UserError: the data, the run directory or a checkpoint cannot be used.
        WorkFailed: the loss is no longer a number, or a checkpoint cannot be written.
    """
    began = time.time()
    members = group()
    console = console or Console(quiet=members.index > 0, emoji=False)
    with (
        working(members),
        memory.explained(config),
        _opened(run, config, console, command, members) as run,
        compile_cache.used(config.trainer.compile_cache) as programs,
    ):
        check_devices(config.trainer.mesh, config.mesh.devices, members)
        command = command or Command(("train", "--config", str(run.config_path)))
        tokens = text.build(
            config.data,
            seq_len=config.model.seq_len,
            seed=config.trainer.seed,
            batch_size=config.trainer.train_batch_size,
        )
        if tokens.vocab_size > config.model.vocab_size:
            raise vocabulary_too_small(config.model.vocab_size, tokens.vocab_size)
        attempt = _Attempt(config, run, tokens, console, stop, began, programs, callbacks, members, threads)
        while True:
            try:
                state, step, loop, interrupted = attempt.made()
                break
            except NotFinite as found:
                problem = found.with_traceback(None)  # whose frames hold the state
            if not attempt.goes_back(problem):
                if members.count > 1:  # the step is made again on one process only
                    raise errors.diverged_together(str(problem))
                from levanter.runtime.rescue import diverged  # and what makes steps again: only where one failed

                raise diverged(attempt.config, run, tokens, attempt.compiled, command, problem, console)
        if step < config.trainer.num_train_steps or loop.unfinished:
            # By a signal, which may have come to another process alone.
            summary.stopped(console, run.path, step, config.trainer.num_train_steps)
            if interrupted:
                raise Interrupted
            return state
        heldout_loss = loop.final_heldout_loss(state)
        model = evaluated_model(config, state) if config.trainer.sample_tokens else None

        def ended(model: Any) -> None:
            summary.ended(console, command, config, run.path, tokens, model, heldout_loss, loop.heldout.whole())

        by_the_first(members, model, ended)
        return state


class _Attempt:
    """The steps of a run from where it starts, resumes or was rewound to, up to its end, a signal or a bad number."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunDirectory,
        tokens: text.TokenData,
        console: Console,
        stop: StopSignal | None,
        began: float,
        programs: compile_cache.Programs | None,
        callbacks: Sequence[Callback],
        members: Group,
        threads: int | None,
    ) -> None:
        self._members = members
        self._fixed = fixed_values(config, run, threads)
        self._fixed |= _chosen(config, run, console)
        self.config = with_fixed(config, self._fixed)
        self.compiled = compile_training(self.config, reproducible=True)
        for line in plan_followed(self.compiled):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._run, self._tokens, self._console, self._stop = run, tokens, console, stop
        self._began, self._programs, self._callbacks = began, programs, callbacks

    def made(self) -> tuple[TrainState, int, Loop, bool]:
        """The last state, its step, the loop that made it, and whether Ctrl-C came.

        Raises:
            NotFinite: the loss or the gradient of a step is not finite.
        """
        kept, first, own = self.config.trainer.checkpoint, self._members.index == 0, self._run.checkpoints_path
        new = followed(own) == own
        folder = keep_elsewhere(own, kept.directory, write=first)
        with contextlib.ExitStack() as stack:
            try:
                if first:
                    stack.enter_context(sole_writer(folder, self._run))
                start = starting_state(self.config, self._run, self._fixed, self._tokens, self.compiled, self._console)
            except UserError:
                if new:  # what is there may be another run's
                    keep_elsewhere(own, None, write=first)
                raise
            return self._made_from(folder, *start)

    def _made_from(
        self, folder: Location, state: TrainState, step: int, course: Course
    ) -> tuple[TrainState, int, Loop, bool]:
        config, run = self.config, self._run
        kept = config.trainer.checkpoint
        asked, made = config.trainer.profiled, range(step + 1, config.trainer.num_train_steps + 1)
        if (traced := common(asked, made)) != asked:
            line = errors.window_cut(asked, traced, made)
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._run = run.started()
        recorded = step - 1 if course.unlogged is not None else step
        instruments = Instruments(
            config,
            self.compiled,
            run.path,
            before=before(run.metrics_path, recorded, self._began),
            programs=self._programs,
            callbacks=self._callbacks,
            process=self._members.index,
        )
        with (
            contextlib.nullcontext(self._stop) if self._stop is not None else StopSignal() as stop,
            stop.training(),  # around the checkpointer, which waits for the last save
            Checkpointer(folder, kept, resumed_step=step or None, group=self._members) as checkpointer,
            self._trackers(recorded) as trackers,
        ):
            loop = Loop(config, self._tokens, self.compiled, checkpointer, trackers, instruments, course, self._members)
            state, step = loop.run(state, step, stop)
        return state, step, loop, stop.interrupted

    def _trackers(self, step: int) -> Trackers:
        """Where the numbers go from `step` on: the first process logs them."""
        if self._members.index > 0:
            return Trackers([])
        tracked = TrackedRun(
            directory=self._run,
            config=draccus.encode(self.config),
            resumed_step=step,
            total_steps=self.config.trainer.num_train_steps,
            console=self._console,
        )
        return open_trackers(self.config.trackers, tracked)

    def goes_back(self, problem: NotFinite) -> bool:
        """Whether the run is rewound; then that is recorded, and what it gives up is removed."""
        config, run = self.config, self._run
        if config.trainer.on_nonfinite != "rewind":
            return False
        left_out = rewinds.read(run.path).rewound(problem.step, config.trainer.checkpoint.every_steps, str(problem))
        if left_out is None or not rewinds.can_go_back(run.checkpoints_path, left_out):
            return False
        window = left_out.last
        self._members.exchange("to be rewound")  # all have read what the first one now writes
        if self._members.index == 0:
            rewinds.write(run.path, left_out)
            rewinds.remove_given_up(run.checkpoints_path, left_out)
        run.write_config(run.record.rewound(window.step))
        self._members.exchange("rewound")
        line = errors.rewound(str(problem), window.step, window.batches, run.path / rewinds.REWINDS)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        return True


def _chosen(config: TrainConfig, run: RunDirectory, console: Console) -> dict[str, Any]:
    """What the planner chooses of the configuration; a run that is resumed keeps what was chosen at its start."""
    names = open_choices(config)
    known = {name: run.record.fixed[name] for name in names if run.record.fixed.get(name)}
    config = with_fixed(config, known)
    if open_choices(config):
        config, _, choices = with_choices(config, config.mesh.as_dict(), config.trainer.hardware)
        for each in choices:
            console.print(each.said, markup=False, highlight=False, soft_wrap=True)
    return {name: operator.attrgetter(name)(config) for name in names}


@contextlib.contextmanager
def _opened(
    run: RunDirectory | None, config: TrainConfig, console: Console, command: Command | None, members: Group
) -> Iterator[RunDirectory]:
    memory.check_state(config)  # before a run directory is made
    if run is not None:
        yield run
        return
    with opened_by_the_first(members, lambda: opened_run(config, console, command)) as opened:
        yield opened
