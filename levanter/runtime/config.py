"""How a run is run, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from levanter.checkpoint.config import CheckpointConfig
from levanter.runtime import errors

TRACKERS = ("none", "wandb")


@dataclass(frozen=True)
class TrainerConfig:
    """Everything about a run that is neither model, data nor optimizer."""

    seed: int = 0
    """Fixes the initial weights, the order of the data and every random number, and so every bit of the run."""
    train_batch_size: int = 32
    """Sequences in one step, over all devices: the size of axis `batch`."""
    num_train_steps: int = 1000
    mesh: str | None = None
    """Device mesh, such as 4x2 (data=4, model=2) or data=4,model=2; null trains on one device."""
    hardware: str = "v5e"
    """The chip whose memory and bandwidths the planner reckons with."""
    run_dir: str | None = None
    """Where the run is kept; null means runs/RUN_NAME below the working directory."""
    run_name: str | None = None
    """Name of the run; null takes the name of the config."""
    tracker: str = "none"
    """Where metrics are mirrored besides metrics.jsonl: none or wandb."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval_every: int = 500
    """Steps between evaluations on held-out text; 0 evaluates at the end only."""
    eval_batches: int = 16
    """Batches of one evaluation; 0 turns evaluation off."""
    log_every: int = 10
    """Steps between progress lines where there is no terminal (metrics.jsonl has every step)."""
    sample_tokens: int = 64
    """Tokens of the sample printed at the end; 0 prints none."""

    def __post_init__(self) -> None:
        for name, least in (
            ("seed", 0),
            ("train_batch_size", 1),
            ("num_train_steps", 1),
            ("eval_every", 0),
            ("eval_batches", 0),
            ("log_every", 1),
            ("sample_tokens", 0),
        ):
            if getattr(self, name) < least:
                raise errors.out_of_range(name, getattr(self, name), least)
        if self.tracker not in TRACKERS:
            raise errors.unknown_tracker(self.tracker, TRACKERS)
