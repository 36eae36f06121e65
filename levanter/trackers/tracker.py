"""What a tracker is: one place that the numbers of a run go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from levanter.trackers.scalars import Scalar


class Tracker(ABC):
    """One place that numbers go. Steps come in ascending order, each once.

    Attributes:
        vital: whether what it raises ends the run; any other one is left out from then on.
    """

    vital: bool = False

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Take the numbers of a step. `step` counts from 1: the steps done when they were taken."""

    def compiled(self) -> None:
        """The first step has been compiled: the time left, where this tracker tells it, is reckoned from here."""
        return None

    def lost(self, seconds: float) -> None:
        """`seconds` went into what will not come again (a compilation): the time left leaves them out."""
        return None

    def sync(self) -> None:
        """Return once everything logged would survive a power cut, where this tracker is a record."""
        return None

    def close(self) -> None:
        """Finish; nothing is logged after."""
        return None
