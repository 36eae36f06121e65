"""Weights & Biases as a mirror of `metrics.jsonl`.

The id of the run on their side is kept in the run directory, so a run that was killed is resumed as the same one.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from levanter import durable
from levanter.optional import require
from levanter.trackers import errors
from levanter.trackers.scalars import Scalar, plain
from levanter.trackers.tracker import Tracker


class WandbMirror(Tracker):
    """A wandb run of the run directory at `path`.

    Args:
        config: the resolved config as nested plain data, to be shown there.
        arguments: for `wandb.init`: project, entity, name, tags, mode and so on. What is not given there is taken from
            the WANDB_ variables.

    Raises:
        UserError: wandb is not installed, or would not start.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
        wandb = require("wandb", "the tracker wandb (trackers.wandb.enabled)", "wandb")
        try:
            self._run: Any = wandb.init(
                **{"project": os.environ.get("WANDB_PROJECT", "levanter"), "name": path.name, **arguments},
                id=_run_id(path / "wandb_id"),
                resume="allow",
                dir=str(path),
                config=dict(config),
                # The console is the progress bar's; wandb would wrap stdout to copy it.
                settings=wandb.Settings(console="off", silent=True),
            )
        except (wandb.Error, OSError) as error:
            raise errors.wandb_unavailable(_first_line(error)) from error
        if not self._run.offline and not self._run.disabled:
            print(f"wandb: {self._run.url}", file=sys.stderr, flush=True)

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Mirror the record of `step`. Steps that wandb has already are ignored there."""
        self._run.log({name: plain(value) for name, value in metrics.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


def _run_id(path: Path) -> str:
    if not path.exists():
        durable.write_file(path, f"{secrets.token_hex(4)}\n".encode())
    return path.read_text(encoding="utf-8").strip()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
