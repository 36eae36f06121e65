"""All the places that a run's numbers go, behind one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from levanter.registry import TRACKERS
from levanter.trackers.config import TrackedRun
from levanter.trackers.scalars import Scalar
from levanter.trackers.section import TrackersConfig
from levanter.trackers.tracker import Tracker


class Trackers:
    """Logs to each tracker in turn; a context manager that closes them all."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._all = list(trackers)

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Log the numbers of a step, once a step, in ascending order. `step` counts from 1."""
        for tracker in self._all:
            tracker.log(step, metrics)

    def compiled(self) -> None:
        """The first step has been compiled: the time left is reckoned from here."""
        for tracker in self._all:
            tracker.compiled()

    def lost(self, seconds: float) -> None:
        """`seconds` went into what will not come again (a compilation): the time left leaves them out."""
        for tracker in self._all:
            tracker.lost(seconds)

    def sync(self) -> None:
        """Make the record durable; to be called before the checkpoint of a step is saved."""
        for tracker in self._all:
            tracker.sync()

    def close(self) -> None:
        for tracker in reversed(self._all):
            tracker.close()

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_trackers(config: TrackersConfig, run: TrackedRun) -> Trackers:
    """The trackers of a run that are on, in the order of the registry: the record first, whatever a mirror does.

    Raises:
        UserError: `metrics.jsonl` is damaged, or a tracker is not installed or would not start.
    """
    sections = [getattr(config, name) for name in TRACKERS]
    return Trackers([section.open(run) for section in sections if section.on])
