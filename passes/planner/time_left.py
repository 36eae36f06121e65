"""One time limit for several searches that come one after another."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

TimeLeft = Callable[[], float | None]
"""The seconds of this process's time that are left; None where there is no limit."""


def unlimited() -> None:
    """What is left where there is no limit."""


def time_left(limit: float | None) -> TimeLeft:
    """What is left of a limit that begins now."""
    if limit is None:
        return unlimited
    ends = process_time() + limit
    return lambda: max(0.0, ends - process_time())
