"""What a run is called at Trackio, and whether it is mirrored there, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.trackers.config import TrackedRun, TrackerConfig

if TYPE_CHECKING:
    from levanter.trackers.tracker import Tracker


@dataclass(frozen=True)
class TrackioConfig(TrackerConfig):
    """Trackio as a mirror of metrics.jsonl: on this machine (`trackio show`), or in a Hugging Face Space."""

    enabled: bool = False
    """Whether numbers are mirrored there."""
    project: str = "levanter"
    """Project."""
    name: str | None = None
    """Name of the run there; null takes that of the run directory, with a few letters that tell it from others."""
    group: str | None = None
    """Group of runs that this one is shown with."""
    space: str | None = None
    """Hugging Face Space, such as me/my-runs, to send the numbers to; null keeps them on this machine."""

    @property
    def on(self) -> bool:
        return self.enabled

    def open(self, run: TrackedRun) -> Tracker:
        from levanter.trackers.trackio.mirror import TrackioMirror

        given = {"project": self.project, "name": self.name, "group": self.group, "space_id": self.space}
        arguments = {name: value for name, value in given.items() if value is not None}
        return TrackioMirror(run.directory.path, run.config, arguments)
