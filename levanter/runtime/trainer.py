"""A run, from its configuration to a trained model.

    data → compiled step → state (new, or from the newest whole checkpoint) → the loop → held-out loss and a sample

The same config gives the same losses and weights however often the run was killed and started again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import draccus
from rich.console import Console

from levanter import data as text
from levanter.checkpoint import Checkpointer
from levanter.checkpoint.directory import keep_elsewhere
from levanter.compiler.compile import compile_training
from levanter.config import TrainConfig, dump
from levanter.models.errors import vocabulary_too_small
from levanter.processes.group import Group
from levanter.processes.starting import group, working
from levanter.runtime import memory, summary
from levanter.runtime.command import Command
from levanter.runtime.loop import Loop
from levanter.runtime.run_directory import Difference, RunDirectory, open_run
from levanter.runtime.run_names import beside, default_directory
from levanter.runtime.starting import starting_state
from levanter.runtime.state import TrainState, evaluated_model
from levanter.runtime.stop import StopSignal
from levanter.runtime.together import by_the_first, check_mesh, opened_by_the_first
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
    members = group()
    console = console or Console(quiet=members.index > 0)
    with (
        memory.explained(config),
        working(members),
        opened_by_the_first(members, lambda: opened_run(config, console, command)) as run,
    ):
        check_mesh(config, members)
        memory.check_state(config)
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
        checkpoint = config.trainer.checkpoint
        folder = keep_elsewhere(run.checkpoints_path, checkpoint.directory, write=members.index == 0)
        members.exchange("where checkpoints are")
        state, step = starting_state(config, run, tokens, compiled, console)
        with (
            Checkpointer(folder, checkpoint, resumed_step=step or None, group=members) as checkpointer,
            _trackers(config, run, step, console, members) as trackers,
            StopSignal() as stop,
        ):
            loop = Loop(config, tokens, compiled, checkpointer, trackers, members)
            state, step = loop.run(state, step, stop)
        if step < config.trainer.num_train_steps:
            summary.stopped(console, run.path, step, config.trainer.num_train_steps)
            raise KeyboardInterrupt
        heldout_loss = loop.final_heldout_loss(state)
        model = evaluated_model(config, state) if config.trainer.sample_tokens else None

        def ended(model: Any) -> None:
            summary.ended(console, command, config, run.path, tokens, model, heldout_loss, loop.heldout)

        by_the_first(members, model, ended)
        return state


def _trackers(config: TrainConfig, run: RunDirectory, step: int, console: Console, members: Group) -> Trackers:
    """Where the numbers go from `step` on: the first process logs them."""
    if members.index > 0:
        return Trackers([])
    tracked = TrackedRun(
        directory=run,
        config=draccus.encode(config),
        resumed_step=step,
        total_steps=config.trainer.num_train_steps,
        console=console,
    )
    return open_trackers(config.trackers, tracked)


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
