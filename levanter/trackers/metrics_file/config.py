"""How the record of a run is kept, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.fields import at_least, check, number
from levanter.trackers.config import TrackedRun, TrackerConfig

if TYPE_CHECKING:
    from levanter.trackers.tracker import Tracker


@dataclass(frozen=True)
class MetricsFileConfig(TrackerConfig):
    """`metrics.jsonl` in the run directory: the record of a run, so it cannot be turned off."""

    sync_seconds: float = number(1.0, at_least(0))
    """Most seconds between flushes to the disk: what a power cut can lose. A killed process loses nothing."""

    def __post_init__(self) -> None:
        check(self, "trackers.metrics_file")

    @property
    def vital(self) -> bool:
        return True

    @property
    def on(self) -> bool:
        return True

    def open(self, run: TrackedRun) -> Tracker:
        from levanter.trackers.metrics_file.metrics_file import MetricsFile

        def notify(line: str) -> None:
            run.console.print(line, markup=False, highlight=False, soft_wrap=True)

        path = run.directory.metrics_path
        return MetricsFile(path, run.resumed_step, sync_seconds=self.sync_seconds, notify=notify)
