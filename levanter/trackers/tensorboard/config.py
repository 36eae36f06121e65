"""Whether a run is mirrored for TensorBoard, and where, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.trackers.config import TrackedRun, TrackerConfig

if TYPE_CHECKING:
    from levanter.trackers.tracker import Tracker


@dataclass(frozen=True)
class TensorboardConfig(TrackerConfig):
    """Event files for TensorBoard, a mirror of metrics.jsonl."""

    enabled: bool = False
    """Whether numbers are mirrored there."""
    folder: str | None = None
    """Where the event files are kept; null means tensorboard in the run directory."""

    @property
    def on(self) -> bool:
        return self.enabled

    def open(self, run: TrackedRun) -> Tracker:
        from levanter.trackers.tensorboard.mirror import TensorboardMirror

        folder = self.folder or run.directory.path / "tensorboard"
        return TensorboardMirror(str(folder), run.config, run.resumed_step)
