"""Progress for people: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from levanter.trackers.scalars import Scalar, plain
from levanter.trackers.tracker import Tracker

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


_HELDOUT = "heldout_loss"


class ConsoleProgress(Tracker):
    """Shows step, loss, tokens a second and time left.

    Args:
        resumed_step: steps done before this process.
        total_steps: the step the run ends with.
        log_every: steps between lines where there is no terminal.
        clock: seconds, for the time left.
    """

    vital = True

    def __init__(
        self,
        console: Console,
        *,
        resumed_step: int,
        total_steps: int,
        log_every: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._resumed_step = resumed_step
        self._total_steps = total_steps
        self._log_every = log_every
        self._clock = clock
        self._started = clock()
        self._bar = _bar(console, resumed_step, total_steps) if console.is_terminal else None

    def compiled(self) -> None:
        """Steps begin now; what came before says nothing of the time left."""
        self._started = self._clock()
        if self._bar is not None:
            self._bar.reset(self._bar.task_ids[0], completed=self._resumed_step)

    def lost(self, seconds: float) -> None:
        """The time left is reckoned as if these seconds had not been. (A bar looks at the last half minute only.)"""
        self._started += seconds

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Show that `step` steps are done."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, status=_status(metrics))
            if _HELDOUT in metrics:
                self.note(f"step {step}: held-out loss {plain(metrics[_HELDOUT]):.4f}")
        elif step % self._log_every == 0 or step == self._total_steps or _HELDOUT in metrics:
            left = duration(self._seconds_left(step))
            self.note(f"step {step}/{self._total_steps}  {_status(metrics, heldout=True)}  {left} left")

    def note(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _seconds_left(self, step: int) -> float:
        pace = (self._clock() - self._started) / max(1, step - self._resumed_step)
        return pace * (self._total_steps - step)


def _bar(console: Console, resumed_step: int, total_steps: int) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = [
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    ]
    bar = Progress(*columns, console=console)
    bar.add_task("train", total=total_steps, completed=resumed_step, status="compiling")
    bar.start()
    return bar


def _status(metrics: Mapping[str, Scalar], heldout: bool = False) -> str:
    parts = [f"loss {plain(metrics['loss']):.4f}"] if "loss" in metrics else []
    if heldout and _HELDOUT in metrics:
        parts.append(f"held-out loss {plain(metrics[_HELDOUT]):.4f}")
    if "tokens_per_second" in metrics:
        parts.append(f"{plain(metrics['tokens_per_second']):,.0f} tokens/s")
    if "mfu" in metrics:
        parts.append(f"MFU {plain(metrics['mfu']):.1%}")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """`seconds` for people: 45s, 3m05s, 2h10m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
