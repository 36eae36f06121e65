"""Which data a run has left out: where its loss was no number any more, it went back and skipped what it read since.

A run goes back to a multiple of `trainer.checkpoint.every_steps`, whatever checkpoints there are: from an older one the
steps up to there are made again. So where it goes back to, and what it skips, depends on nothing but the run itself,
and a run that is killed at any moment ends as one that was not. What is skipped is written to `rewinds.json` first; a
checkpoint of the steps that were given up says of other data, or of none, in its metadata, and is removed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from levanter import durable
from levanter.checkpoint import DamagedCheckpoint, committed, read_manifest
from levanter.checkpoint.directory import remove
from levanter.runtime.run_directory import REWINDS

KEY = "skipped"
"""Where the metadata of a checkpoint has `before` of its step; absent where nothing was skipped."""
MOST = 20
"""Rewinds of one run: one that diverges as often does so on any data."""

_EVERY = 100


@dataclass(frozen=True)
class Window:
    """After `step` steps, the next `batches` batches are left out; `why` says so to people."""

    step: int
    batches: int
    why: str


@dataclass(frozen=True)
class Rewinds:
    """The data that a run leaves out, in the order of its steps, and how often it has gone back."""

    windows: tuple[Window, ...] = ()
    count: int = 0

    def batch_of(self, step: int) -> int:
        """The number of the batch that the step after `step` steps reads."""
        return step + sum(window.batches for window in self.windows if window.step <= step)

    def before(self, step: int) -> list[list[int]]:
        """What a checkpoint of `step` says of the data that its run has left out."""
        return [[window.step, window.batches] for window in self.windows if window.step < step]

    def rewound(self, step: int, every: int | None, why: str) -> Rewinds | None:
        """What is left out besides when step `step` (counted from 1) is given up; None where there is nothing to go
        back to: the state at each of the multiples of `every` was tried with other data, or it was too often."""
        every = every or _EVERY
        back = (step - 1) // every * every
        tried = {window.step for window in self.windows}
        while back in tried:
            if back == 0:
                return None
            back -= every
        if self.count >= MOST:
            return None
        kept = tuple(window for window in self.windows if window.step < back)
        next_batch = self.batch_of(step - 1) + 1
        skipped = next_batch - back - sum(window.batches for window in kept)
        return Rewinds((*kept, Window(back, skipped, why)), self.count + 1)

    @property
    def last(self) -> Window:
        return self.windows[-1]


def read(run: Path) -> Rewinds:
    """What the run at `run` leaves out."""
    path = run / REWINDS
    if not path.exists():
        return Rewinds()
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Rewinds(tuple(Window(**each) for each in found["windows"]), found["count"])


def write(run: Path, rewinds: Rewinds) -> None:
    """Record what the run at `run` leaves out from now on, and remove the checkpoints of what it gives up."""
    durable.write_file(run / REWINDS, (json.dumps(asdict(rewinds), indent=1) + "\n").encode())


def can_go_back(checkpoints: Path, rewinds: Rewinds) -> bool:
    """Whether there is a checkpoint to go back from; near the start of a run none is needed."""
    back = rewinds.last.step
    return back == 0 or any(int(path.name.removeprefix("step-")) <= back for path in committed(checkpoints))


def remove_given_up(checkpoints: Path, rewinds: Rewinds) -> None:
    """Remove the checkpoints that are not of the run as it is now; damaged ones are left to whoever reads them."""
    for path in committed(checkpoints):
        try:
            manifest = read_manifest(path)
        except DamagedCheckpoint:
            continue
        if manifest.metadata.get(KEY, []) != rewinds.before(manifest.step):
            remove(path)
