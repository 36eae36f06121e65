"""What every tracker is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.registry import TRACKERS, Component

if TYPE_CHECKING:
    from rich.console import Console

    from levanter.runtime.run_directory import RunDirectory
    from levanter.trackers.tracker import Tracker


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of the run that it is opened for."""

    directory: RunDirectory
    config: Mapping[str, Any]
    """The resolved config as nested plain data, to be shown."""
    resumed_step: int
    """Steps done before this process; 0 at the start of a run."""
    total_steps: int
    """The step that the run ends with."""
    console: Console


@dataclass(frozen=True)
class TrackerConfig(Component, ABC, registry=TRACKERS):
    """A tracker: its section of the configuration has its name, such as `trackers.console`."""

    @property
    def vital(self) -> bool:
        """Whether a run that resumes must have it, see `Tracker`."""
        return False

    @property
    @abstractmethod
    def on(self) -> bool:
        """Whether numbers go there."""

    @abstractmethod
    def open(self, run: TrackedRun) -> Tracker:
        """The tracker of a run.

        Raises:
            UserError: it would not start.
        """
