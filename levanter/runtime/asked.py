"""Which steps of which run are to be made again, read from the run directory without starting JAX."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levanter.checkpoint import Location, committed
from levanter.config import TrainConfig, loads, parse_mesh
from levanter.runtime import errors
from levanter.runtime.record import CPU_THREADS, Record, as_of, read, with_fixed
from levanter.runtime.run_directory import RunDirectory


@dataclass(frozen=True)
class Request:
    """Which steps of which run are made again: those after `start` up to `end`, on `mesh` where that is given."""

    run: RunDirectory
    record: Record
    start: int
    end: int
    mesh: str | None = None

    def config(self, step: int) -> TrainConfig:
        """The configuration that made `step`, with what was fixed."""
        text, then = as_of(self.run.config_text, self.record, step)
        config = with_fixed(loads(text), then.fixed)
        if self.mesh is None:
            return config
        plan = config.trainer.plan if parse_mesh(self.mesh) == config.mesh else None
        return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, mesh=self.mesh, plan=plan))

    @property
    def threads(self) -> int | None:
        """The CPU threads that the last of the steps was made with."""
        return as_of(self.run.config_text, self.record, self.end)[1].fixed.get(CPU_THREADS)


def requested(path: Path, steps: tuple[int, int] | None, mesh: str | None) -> Request:
    """What a command asks for; no JAX is started.

    Args:
        steps: see `Request`; None means those between the last two checkpoints, or all there are.

    Raises:
        UserError: there is no such run, or it has not made these steps.
    """
    run = RunDirectory(path)
    if not run.config_path.is_file():
        raise errors.no_run(path)
    run = RunDirectory(path, run.config_path.read_text(encoding="utf-8"))
    newest = checkpoint_before(run, 1 << 62)
    done = max([step_of(newest), *records_of(run)])
    if done == 0:
        raise errors.nothing_made(path)
    if steps is None:
        end = step_of(newest) or done
        steps = step_of(checkpoint_before(run, end - 1)), end
    if steps[1] > done:
        raise errors.steps_not_made(path, steps[1], done)
    return Request(run, read(run.config_text), *steps, mesh)


def checkpoint_before(run: RunDirectory, step: int) -> Location | None:
    """The newest checkpoint of training up to `step`; None where there is none, and the start of the run is nearest."""
    found = [path for path in committed(run.checkpoints_path) if 0 < step_of(path) <= step]
    return found[-1] if found else None


def step_of(checkpoint: Location | None) -> int:
    """The step of a checkpoint by its name; 0 for the start of a run."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("step-"))


def records_of(run: RunDirectory) -> dict[int, dict[str, Any]]:
    """The records of a run by step; what is torn is none."""
    found: dict[int, dict[str, Any]] = {}
    if run.metrics_path.exists():
        for line in run.metrics_path.read_bytes().splitlines():
            try:
                kept = json.loads(line)
                found[int(kept["step"])] = kept
            except (ValueError, TypeError, KeyError):
                continue
    return found
