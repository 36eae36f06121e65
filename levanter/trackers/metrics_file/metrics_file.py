"""`metrics.jsonl`: the record of a run, one JSON object a step.

A line is handed to the system as soon as it is logged, so `kill -9` loses none. It is flushed to the disk once a second
(`sync_seconds`) and whenever `sync` is called, which the trainer does before each checkpoint: what a power cut can take
are records of steps that the resumed run makes again. A resumed run first drops every record past the step it resumes
from, so the file of a run that was killed ten times equals that of an undisturbed one, but for what measures time.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from levanter import durable
from levanter.trackers import errors
from levanter.trackers.scalars import Scalar, record
from levanter.trackers.tracker import Tracker

SYNC_SECONDS = 1.0


class MetricsFile(Tracker):
    """Appends to the file at `path`, from which the records past `resumed_step` are dropped first.

    What is lost of the part that stays is told and does not keep the run from resuming: torn lines are dropped (the
    file as it was is kept beside it), and steps without a record are named.

    Args:
        notify: told, in a line for people, what is lost.

    Raises:
        WorkFailed: the file cannot be written.
    """

    vital = True

    def __init__(
        self,
        path: Path,
        resumed_step: int,
        clock: Callable[[], float] = time.monotonic,
        sync_seconds: float = SYNC_SECONDS,
        notify: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._clock = clock
        self._sync_seconds = sync_seconds
        try:
            found = _read(path, resumed_step)
            if found.damaged:
                kept = _free(path.with_name(f"{path.name}.damaged"))
                shutil.copyfile(path, kept)
                durable.write_file(path, found.records)
                notify(errors.damaged_lines(path, found.damaged, kept))
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (open for the length of the run)
            os.ftruncate(self._file.fileno(), len(found.records))
        except OSError as error:
            raise errors.cannot_record(path, error) from error
        if missing := _missing(found.steps, resumed_step):
            notify(errors.lost_records(path, missing))
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


@dataclass(frozen=True)
class _Found:
    """The part of a file that stays: its records as they stand, their steps, and the lines that are none (from 1)."""

    records: bytes
    steps: frozenset[int]
    damaged: tuple[int, ...]


def _read(path: Path, resumed_step: int) -> _Found:
    """The records of steps up to `resumed_step`. What is torn at the end is no damage: a killed run leaves it."""
    records: list[bytes] = []
    steps: set[int] = set()
    damaged: list[int] = []
    torn: list[int] = []
    if not path.exists():
        return _Found(b"", frozenset(), ())
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            step = _step(line)
            if step is None:
                torn.append(number)
            elif step <= resumed_step:
                damaged += torn
                torn = []
                records.append(line)
                steps.add(step)
    return _Found(b"".join(records), frozenset(steps), tuple(damaged))


def _missing(steps: frozenset[int], resumed_step: int) -> list[range]:
    """The ranges of steps up to `resumed_step` that are not among `steps`."""
    found: list[range] = []
    for step in range(1, resumed_step + 1):
        if step not in steps:
            if found and found[-1].stop == step:
                found[-1] = range(found[-1].start, step + 1)
            else:
                found.append(range(step, step + 1))
    return found


def _free(path: Path) -> Path:
    """The path, or the next one that is not there yet, with a number behind it."""
    names = (path.with_name(f"{path.name}{suffix}") for suffix in itertools.chain([""], itertools.count(2)))
    return next(name for name in names if not name.exists())


def _step(line: bytes) -> int | None:
    """The step of a line, or None where it is torn or no record."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, int) else None
