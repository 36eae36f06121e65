"""All the places that a run's numbers go, behind one object.

The record, `metrics.jsonl`, must work. The others are mirrors: nothing that happens there can stop or change training.
A mirror that fails is told of in one line and rests from then on, and a run that resumes does so without one that does
not start again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from levanter.registry import TRACKERS
from levanter.trackers import errors
from levanter.trackers.config import TrackedRun
from levanter.trackers.scalars import Scalar
from levanter.trackers.section import TrackersConfig
from levanter.trackers.tracker import Tracker


class Trackers:
    """Logs to each tracker in turn; a context manager that closes them all.

    Args:
        trackers: each with its name.
    """

    def __init__(self, trackers: Sequence[tuple[str, Tracker]]) -> None:
        self._all = list(trackers)

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Log the numbers of a step, once a step, in ascending order. `step` counts from 1."""
        self._each(lambda tracker: tracker.log(step, metrics))

    def compiled(self) -> None:
        """The first step has been compiled: the time left is reckoned from here."""
        self._each(lambda tracker: tracker.compiled())

    def lost(self, seconds: float) -> None:
        """`seconds` went into what will not come again (a compilation): the time left leaves them out."""
        self._each(lambda tracker: tracker.lost(seconds))

    def sync(self) -> None:
        """Make the record durable; to be called before the checkpoint of a step is saved."""
        self._each(lambda tracker: tracker.sync())

    def close(self) -> None:
        self._all.reverse()
        self._each(lambda tracker: tracker.close())

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._all):
            try:
                act(tracker)
            except Exception as error:
                if tracker.vital:
                    raise
                self._all.remove((name, tracker))
                _say(errors.mirror_failed(name, error))

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_trackers(config: TrackersConfig, run: TrackedRun) -> Trackers:
    """The trackers of a run that are on, in the order of the registry: the record first, whatever a mirror does.

    Raises:
        UserError: `metrics.jsonl` is damaged, or a mirror is not installed or would not start, and nothing is trained
            yet.
    """
    found: list[tuple[str, Tracker]] = []
    for name in TRACKERS:
        section = getattr(config, name)
        if not section.on:
            continue
        try:
            found.append((name, section.open(run)))
        except Exception as error:
            if run.resumed_step == 0 or section.vital:
                raise
            _say(errors.mirror_failed(name, error))
    return Trackers(found)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
