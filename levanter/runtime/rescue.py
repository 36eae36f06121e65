"""What is said of a run that diverged: where it came from, and commands that go on from there.

The steps since the last checkpoint are made again, up to the one that went wrong, and that one is looked at node by
node (`levanter.compiler.origin`).
"""

from __future__ import annotations

import math

from rich.console import Console

from levanter import data as text
from levanter.checkpoint.locations import Location
from levanter.compiler.compile import Compiled
from levanter.compiler.origin import Replayed, origin_of_nonfinite
from levanter.config import TrainConfig
from levanter.errors import UserError, WorkFailed
from levanter.runtime import errors
from levanter.runtime.asked import checkpoint_before, step_of
from levanter.runtime.command import Command
from levanter.runtime.nonfinite import NotFinite
from levanter.runtime.rerun import Rerun
from levanter.runtime.run_directory import RunDirectory

_LOWER = 0.3
_WARMUP = 100


def diverged(
    config: TrainConfig,
    run: RunDirectory,
    tokens: text.TokenData,
    compiled: Compiled,
    command: Command,
    problem: NotFinite,
    console: Console,
) -> WorkFailed:
    """The end of a run whose step `problem.step` gave a number that is not finite."""
    checkpoint = checkpoint_before(run, problem.step - 1)
    console.print(errors.replaying(step_of(checkpoint), problem.step), markup=False, highlight=False, soft_wrap=True)
    try:
        origin = _origin(Rerun(config, run, tokens, compiled), checkpoint, problem.step)
    except (UserError, ValueError, NotImplementedError, MemoryError) as error:
        origin = errors.not_replayed(error)
    return errors.diverged(str(problem), origin or errors.not_shown(), _ways(config, run, command, checkpoint))


def _origin(rerun: Rerun, checkpoint: Location | None, step: int) -> str | None:
    state = rerun.after(rerun.state(checkpoint), step_of(checkpoint), step - 1)
    bad = Replayed(state, rerun.batch(step - 1), step)

    def healthy() -> Replayed:
        return Replayed(rerun.state(None), rerun.batch(0), 1)

    return origin_of_nonfinite(rerun.compiled, bad, healthy if step > 1 else None)


def _ways(
    config: TrainConfig, run: RunDirectory, command: Command, checkpoint: Location | None
) -> list[tuple[str, str]]:
    """Commands to go on with, and what each does."""
    rate = float(f"{config.optimizer.learning_rate * _LOWER:.2g}")
    lower = {"optimizer__learning_rate": rate if math.isfinite(rate) else 1e-4, "run_dir": f"{run.path}-lower"}
    if checkpoint is None:
        return [*_here(config, run, command), (command.text(**lower), "another run with a lower learning rate")]
    start = {"trainer__initialize_from": checkpoint, "optimizer__warmup": _WARMUP}
    does = f"another run from the weights of step {step_of(checkpoint)}, with a lower learning rate"
    return [*_here(config, run, command), (command.text(**lower, **start), does)]


def _here(config: TrainConfig, run: RunDirectory, command: Command) -> list[tuple[str, str]]:
    """Commands that resume the very run."""
    ways = {
        "rewind": "this run again from its last good checkpoint, without the data since",
        "skip": "this run again from its last checkpoint, without the updates that are not finite",
    }
    now = config.trainer.on_nonfinite
    return [
        (command.text(trainer__on_nonfinite=policy, run_dir=run.path), does)
        for policy, does in ways.items()
        if policy != now
    ]
