"""`metrics.jsonl`: the record of a run, one JSON object a step.

A line is handed to the system as soon as it is logged, so `kill -9` loses none. It is flushed to the disk once a second
(`sync_seconds`) and whenever `sync` is called, which the trainer does before each checkpoint: what a power cut can take
are records of steps that the resumed run makes again. A resumed run first drops every record past the step it resumes
from, so the file of a run that was killed ten times equals that of an undisturbed one, but for what measures time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from levanter.trackers import errors
from levanter.trackers.scalars import Scalar, record
from levanter.trackers.tracker import Tracker

SYNC_SECONDS = 1.0


class MetricsFile(Tracker):
    """Appends to the file at `path`, from which the records past `resumed_step` are dropped first.

    Raises:
        UserError: a line of the part that stays is not a record.
    """

    vital = True

    def __init__(
        self,
        path: Path,
        resumed_step: int,
        clock: Callable[[], float] = time.monotonic,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self._clock = clock
        self._sync_seconds = sync_seconds
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (open for the length of the run)
        os.ftruncate(self._file.fileno(), _kept_bytes(path, resumed_step))
        self.sync()

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Append the record of `step`."""
        self._file.write(record(step, metrics).encode())
        if self._clock() - self._synced >= self._sync_seconds:
            self.sync()

    def sync(self) -> None:
        """Flush to the disk."""
        os.fsync(self._file.fileno())
        self._synced = self._clock()

    def close(self) -> None:
        self.sync()
        self._file.close()


def _kept_bytes(path: Path, resumed_step: int) -> int:
    """The length of the leading part of the file whose records are of steps up to `resumed_step`."""
    kept = end = 0
    first_bad = None
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            end += len(line)
            step = _step(line)
            if step is None:
                first_bad = first_bad or number
            elif step <= resumed_step:
                if first_bad is not None:
                    raise errors.damaged_record(path, first_bad)
                kept = end
    return kept


def _step(line: bytes) -> int | None:
    """The step of a line, or None where it is torn or no record."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, int) else None
