"""A run, from its configuration to a trained model.

    data → compiled step → state (new, or from the newest whole checkpoint) → the loop → held-out loss and a sample

The same config gives the same losses and weights however often the run was killed and started again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import draccus
from rich.console import Console

from levanter import data as text
from levanter.checkpoint import Checkpointer
from levanter.compiler.compile import compile_training
from levanter.config import TrainConfig, dump
from levanter.models.errors import vocabulary_too_small
from levanter.runtime import compile_cache, memory, summary
from levanter.runtime.callbacks import Callback
from levanter.runtime.command import Command
from levanter.runtime.instruments import Instruments
from levanter.runtime.loop import Loop
from levanter.runtime.pace import before
from levanter.runtime.run_directory import Difference, RunDirectory, open_run
from levanter.runtime.run_names import beside, default_directory
from levanter.runtime.starting import starting_state
from levanter.runtime.state import TrainState, evaluated_model
from levanter.runtime.stop import StopSignal
from levanter.trackers.config import TrackedRun
from levanter.trackers.trackers import open_trackers


def train(
    config: TrainConfig,
    console: Console | None = None,
    command: Command | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainState:
    """Train as `config` says, or resume a run that was stopped, and return the last state.

    Ctrl-C or SIGTERM ends the run after the step it is in, with a checkpoint.

    Args:
        command: what the user typed, for hints and refusals to repeat; default: one that reads the run's own config.
        callbacks: code of the caller's that looks on, see `levanter.runtime.callbacks`.

    Raises:
        KeyboardInterrupt: the run was stopped so; everything is saved.
        UserError: the data, the run directory or a checkpoint cannot be used.
        WorkFailed: the loss is no longer a number, or a checkpoint cannot be written.
    """
    began = time.time()
    console = console or Console()
    memory.check_state(config)
    with (
        memory.explained(config),
        opened_run(config, console, command) as run,
        compile_cache.used(config.trainer.compile_cache) as programs,
    ):
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
        instruments = Instruments(
            config,
            compiled,
            run.path,
            before=before(run.metrics_path, step, began),
            programs=programs,
            callbacks=callbacks,
        )
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
            loop = Loop(config, tokens, compiled, checkpointer, trackers, instruments)
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
