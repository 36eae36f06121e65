"""Trackio as a mirror of `metrics.jsonl`. Its own variables, such as TRACKIO_DIR, say where it keeps its files.

The name of the run there is kept in the run directory, so a run that was killed is resumed as the same one.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from levanter import durable
from levanter.optional import require
from levanter.trackers.scalars import Scalar, plain
from levanter.trackers.tracker import Tracker

_ITS_OWN = frozenset({"time"})
"""Keys of records that Trackio keeps for itself; it has the time of each record anyway."""


class TrackioMirror(Tracker):
    """A Trackio run of the run directory at `path`.

    Args:
        config: the resolved config as nested plain data, to be shown there.
        arguments: for `trackio.init`: project, name and so on.

    Raises:
        UserError: trackio is not installed.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
        trackio = require("trackio", "the tracker trackio (trackers.trackio.enabled)", "trackio")
        folder = path / "trackio"
        folder.mkdir(exist_ok=True)
        name = {"name": _name(folder / "name", path.name)}
        with contextlib.redirect_stdout(sys.stderr):  # the console is the progress bar's
            self._run: Any = trackio.init(
                **{**name, **arguments},
                config=dict(config),
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        self._finish: Callable[[], None] = trackio.finish

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Mirror the record of `step`."""
        self._run.log({name: plain(value) for name, value in metrics.items() if name not in _ITS_OWN}, step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._finish()


def _name(file: Path, run: str) -> str:
    if not file.exists():
        durable.write_file(file, f"{run}-{secrets.token_hex(2)}\n".encode())
    return file.read_text(encoding="utf-8").strip()
