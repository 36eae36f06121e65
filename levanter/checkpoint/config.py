"""How often a run is saved and how much is kept, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from levanter.checkpoint import errors


@dataclass(frozen=True)
class CheckpointConfig:
    """When to save. The end of the run is always saved. None of this changes a bit of the run."""

    every_steps: int | None = 500
    """Steps between checkpoints; null saves by time alone."""
    every_minutes: float | None = 10.0
    """Most minutes between checkpoints; null saves by steps alone."""
    keep: int = 2
    """How many of the newest checkpoints stay on the disk."""

    def __post_init__(self) -> None:
        if self.every_steps is not None and self.every_steps < 1:
            raise errors.out_of_range("every_steps", self.every_steps, "at least 1, or null")
        if self.every_minutes is not None and self.every_minutes <= 0:
            raise errors.out_of_range("every_minutes", self.every_minutes, "more than 0, or null")
        if self.keep < 1:
            raise errors.out_of_range("keep", self.keep, "at least 1")
