"""Which run directory a command means, opened before anything slow is imported: a second writer is refused at once.

No JAX here: how many threads its CPU client gets is read from the directory.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from levanter.config import TrainConfig, dump
from levanter.runtime import environment, record
from levanter.runtime.command import Command
from levanter.runtime.run_directory import Difference, RunDirectory, open_run, refuse_a_second_writer
from levanter.runtime.run_names import beside, default_directory

STEPS = "trainer.num_train_steps"


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


def check_free(config: TrainConfig) -> None:
    """Look whether the run directory that the config names is free, before the processes of a run have met: none of
    them takes it until they have, so whoever has it is of another run.

    Raises:
        UserError: another process is writing it.
    """
    named = config.trainer.run_dir
    refuse_a_second_writer(
        Path(named) if named else default_directory(Path("runs"), config.trainer.run_name or "run", dump(config))[0]
    )


def fixed_values(config: TrainConfig, run: RunDirectory, threads: int | None = None) -> dict[str, Any]:
    """What null means in the config of a run: what was fixed when it started, or is fixed now.

    Args:
        threads: of the CPU; default: those that there are.
    """
    steps = run.before(STEPS, config.trainer.num_train_steps)
    return record.fixed_at_start(config, run.record, steps, threads or environment.available_threads())
