"""How fast a run goes."""

from __future__ import annotations

import time
from collections import deque


class Pace:
    """Tokens per second over the last steps; what happens between `pause` and the next step does not count."""

    def __init__(self, tokens_per_step: int, window: int = 20) -> None:
        self._tokens_per_step = tokens_per_step
        self._seconds: deque[float] = deque(maxlen=window)
        self._last = time.perf_counter()

    def tick(self) -> float:
        """A step has ended."""
        now = time.perf_counter()
        self._seconds.append(now - self._last)
        self._last = now
        return round(self._tokens_per_step * len(self._seconds) / sum(self._seconds), 1)

    def pause(self) -> None:
        """Something other than a step has ended."""
        self._last = time.perf_counter()
