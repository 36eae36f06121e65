"""How fast a run goes, and how much of its time makes steps.

These numbers stand in the record of each step beside what the step computed; `TIMED` of `levanter.trackers.records` is
the list of them. All times are seconds of the wall clock, as one process sees them.

    tokens_per_second         over the last 20 steps
    step_seconds              of this step, from the one before; evaluations, checkpoints and compilation apart
    flops_per_second          of the model's products, over the same steps, on all devices
    mfu                       that as a share of what the devices could do in bf16, where that is known
    data_wait_seconds         at most this long the devices waited for the batch of the next step
    checkpoint_stall_seconds  this long the steps waited for checkpoints since the record before
    goodput                   the share of `run_seconds` that went into steps which count
    run_seconds               since the run was first started, restarts and the time between them included
    time                      when: seconds since 1970
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from levanter.trackers.records import read

if TYPE_CHECKING:
    from levanter.compiler.arithmetic import StepArithmetic

WINDOW = 20
"""Steps that rates are over."""


@dataclass(frozen=True)
class Before:
    """What a run did before this process.

    Attributes:
        started: when it was first started, in seconds since 1970.
        useful: seconds of the steps that count.
    """

    started: float
    useful: float = 0.0


def before(metrics: Path, resumed_step: int, now: float) -> Before:
    """What the records of a run say of the time before this process; to be called before they are cut.

    Args:
        metrics: the file of records.
        resumed_step: steps done before this process, those that count.
        now: when this process was started.
    """
    started, useful = now, 0.0
    for each in read(metrics):
        if "time" in each and "run_seconds" in each:
            started = min(started, each["time"] - each["run_seconds"])
        if each["step"] <= resumed_step:
            useful += each.get("step_seconds", 0.0)
    return Before(started, useful)


class Pace:
    """The numbers of the module's list; what happens between `pause` and the next step counts as no step's time.

    Args:
        arithmetic: of a step; without it there are no FLOP/s.
        before: what the run did before; default: it starts now.
    """

    def __init__(
        self, tokens_per_step: int, arithmetic: StepArithmetic | None = None, before: Before | None = None
    ) -> None:
        self._tokens_per_step = tokens_per_step
        self._arithmetic = arithmetic
        self._before = before or Before(time.time())
        self._useful = self._before.useful
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._data_wait = self._stall = 0.0
        self._last = time.perf_counter()

    def tick(self) -> dict[str, float]:
        """A step has ended: its numbers."""
        now, clock = time.perf_counter(), time.time()
        self._seconds.append(now - self._last)
        self._useful += now - self._last
        self._last = now
        run_seconds = max(clock - self._before.started, self._useful)
        numbers = {
            "tokens_per_second": round(self._tokens_per_step / self.step_seconds, 1),
            "step_seconds": round(self._seconds[-1], 6),
            **self._rates(),
            "data_wait_seconds": round(self._data_wait, 6),
            "checkpoint_stall_seconds": round(self._stall, 6),
            "goodput": round(self._useful / run_seconds, 4) if run_seconds else 1.0,
            "run_seconds": round(run_seconds, 3),
            "time": round(clock, 3),
        }
        self._data_wait = self._stall = 0.0
        return numbers

    @property
    def step_seconds(self) -> float:
        """The mean over the last steps."""
        return sum(self._seconds) / len(self._seconds)

    def _rates(self) -> dict[str, float]:
        if self._arithmetic is None:
            return {}
        rate = self._arithmetic.flops / self.step_seconds
        found = {"flops_per_second": float(f"{rate:.4g}")}
        return found if self._arithmetic.peak is None else {**found, "mfu": round(rate / self._arithmetic.peak, 4)}

    def pause(self) -> None:
        """Something other than a step has ended."""
        self._last = time.perf_counter()

    def lost(self, seconds: float) -> None:
        """`seconds` of the step that is being made went into something else."""
        self._last += seconds

    def waited_for_data(self, seconds: float, idle: bool) -> None:
        """A batch took `seconds` to make: the devices waited for it at most as long, where they are `idle` by now."""
        if idle:
            self._data_wait += seconds

    def stalled(self, seconds: float) -> None:
        """Steps waited for a checkpoint."""
        self._stall += seconds
