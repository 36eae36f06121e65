"""How progress is shown to people, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.fields import SIZE, check, number
from levanter.trackers.config import TrackedRun, TrackerConfig

if TYPE_CHECKING:
    from levanter.trackers.tracker import Tracker


@dataclass(frozen=True)
class ConsoleConfig(TrackerConfig):
    """Progress on the console: a bar in a terminal, a plain line now and then elsewhere."""

    enabled: bool = True
    """Whether progress is shown."""
    log_every: int = number(10, SIZE)
    """Steps between progress lines where there is no terminal (metrics.jsonl has every step)."""

    def __post_init__(self) -> None:
        check(self, "trackers.console")

    @property
    def vital(self) -> bool:
        return True

    @property
    def on(self) -> bool:
        return self.enabled

    def open(self, run: TrackedRun) -> Tracker:
        from levanter.trackers.console.progress import ConsoleProgress

        return ConsoleProgress(
            run.console, resumed_step=run.resumed_step, total_steps=run.total_steps, log_every=self.log_every
        )
