"""How often a run is saved and how much is kept, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from levanter.fields import SIZE, above, check, number


@dataclass(frozen=True)
class CheckpointConfig:
    """When to save. The end of the run is always saved. None of this changes a bit of the run."""

    every_steps: int | None = number(500, SIZE)
    """Steps between checkpoints; null saves by time alone."""
    every_minutes: float | None = number(10.0, above(0))
    """Most minutes between checkpoints; null saves by steps alone."""
    keep: int = number(2, SIZE)
    """How many of the newest checkpoints stay on the disk."""
    keep_every: int | None = number(None, SIZE)
    """Multiples of so many steps are saved, and stay for good; null keeps the newest alone."""
    directory: str | None = None
    """Folder or URL (gs://, s3://) for the checkpoints; null keeps them in the run directory."""

    def __post_init__(self) -> None:
        check(self, "trainer.checkpoint")
