"""How the record of a run is kept, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.trackers import errors
from levanter.trackers.config import TrackedRun, TrackerConfig

if TYPE_CHECKING:
    from levanter.trackers.tracker import Tracker


@dataclass(frozen=True)
class MetricsFileConfig(TrackerConfig):
    """`metrics.jsonl` in the run directory: the record of a run, so it cannot be turned off."""

    sync_seconds: float = 1.0
    """Most seconds between flushes to the disk: what a power cut can lose. A killed process loses nothing."""

    def __post_init__(self) -> None:
        if not (self.sync_seconds >= 0 and math.isfinite(self.sync_seconds)):
            raise errors.out_of_range("metrics_file.sync_seconds", self.sync_seconds, 0)

    @property
    def on(self) -> bool:
        return True

    def open(self, run: TrackedRun) -> Tracker:
        from levanter.trackers.metrics_file.metrics_file import MetricsFile

        return MetricsFile(run.directory.metrics_path, run.resumed_step, sync_seconds=self.sync_seconds)
