"""What a run is called at Weights & Biases, and whether it is mirrored there, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from levanter.fields import check, word
from levanter.trackers.config import TrackedRun, TrackerConfig

if TYPE_CHECKING:
    from levanter.trackers.tracker import Tracker

MODES = ("online", "offline", "disabled")


@dataclass(frozen=True)
class WandbConfig(TrackerConfig):
    """Weights & Biases as a mirror of metrics.jsonl. What is null here is left to the WANDB_ variables and to wandb."""

    enabled: bool = False
    """Whether numbers are mirrored there."""
    project: str | None = None
    """Project; null takes WANDB_PROJECT, or levanter."""
    entity: str | None = None
    """User or team that owns the project; null takes WANDB_ENTITY, or the user who is logged in."""
    name: str | None = None
    """Name of the run there; null takes that of the run directory."""
    group: str | None = None
    """Group of runs that this one is shown with."""
    tags: list[str] = field(default_factory=list)
    """Tags of the run."""
    notes: str | None = None
    """A description of the run."""
    mode: str | None = word(None, MODES)
    """online, offline (kept in the run directory for `wandb sync`) or disabled; null takes WANDB_MODE, or online."""

    def __post_init__(self) -> None:
        check(self, "trackers.wandb")

    @property
    def on(self) -> bool:
        return self.enabled

    def open(self, run: TrackedRun) -> Tracker:
        from levanter.trackers.wandb.mirror import WandbMirror

        return WandbMirror(run.directory.path, run.config, self.init_arguments())

    def init_arguments(self) -> dict[str, object]:
        """What `wandb.init` is given: the fields that are set."""
        given = {
            "project": self.project,
            "entity": self.entity,
            "name": self.name,
            "group": self.group,
            "tags": list(self.tags) or None,
            "notes": self.notes,
            "mode": self.mode,
        }
        return {key: value for key, value in given.items() if value is not None}
