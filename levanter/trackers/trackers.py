"""All the places that a run's numbers go, behind one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from levanter.runtime.run_directory import RunDirectory
from levanter.trackers.console.progress import ConsoleProgress
from levanter.trackers.metrics_file.metrics_file import MetricsFile
from levanter.trackers.scalars import Scalar
from levanter.trackers.wandb.mirror import WandbMirror

if TYPE_CHECKING:
    from rich.console import Console


class Tracker(Protocol):
    """One place that numbers go."""

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Take the numbers of a step. `step` counts from 1: the steps done when they were taken."""
        ...

    def sync(self) -> None:
        """Return once everything logged would survive a power cut, where this tracker is a record."""
        ...

    def close(self) -> None:
        """Finish; nothing is logged after."""
        ...


class Trackers:
    """Logs to `metrics.jsonl`, the console and what else was asked for; a context manager that closes them all."""

    def __init__(self, metrics_file: MetricsFile, progress: ConsoleProgress, others: Sequence[Tracker]) -> None:
        self._progress = progress
        # The record comes first: whatever a mirror does, the step is written.
        self._all: list[Tracker] = [metrics_file, *others, progress]

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Log the numbers of a step, once a step, in ascending order. `step` counts from 1."""
        for tracker in self._all:
            tracker.log(step, metrics)

    def compiled(self) -> None:
        """The first step has been compiled: the time left is reckoned from here."""
        self._progress.compiled()

    def note(self, text: str) -> None:
        """Print a line for people, above the progress bar where there is one."""
        self._progress.note(text)

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


def open_trackers(
    run: RunDirectory,
    *,
    tracker: str,
    config: Mapping[str, Any],
    resumed_step: int,
    total_steps: int,
    log_every: int,
    console: Console,
) -> Trackers:
    """The trackers of a run that has done `resumed_step` steps (0 at its start).

    Args:
        tracker: "none", or "wandb" to mirror the numbers there.
        config: the resolved config as nested plain data, for the mirror to show.

    Raises:
        UserError: `metrics.jsonl` is damaged, or the mirror is not installed or would not start.
    """
    metrics_file = MetricsFile(run.metrics_path, resumed_step)
    others = [WandbMirror(run.path, config)] if tracker == "wandb" else []
    progress = ConsoleProgress(console, resumed_step=resumed_step, total_steps=total_steps, log_every=log_every)
    return Trackers(metrics_file, progress, others)
