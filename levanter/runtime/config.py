"""How a run is run, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from levanter.checkpoint.config import CheckpointConfig
from levanter.fields import COUNT, SEED, SIZE, at_least, check, number, word
from levanter.runtime import errors


@dataclass(frozen=True)
class TrainerConfig:
    """Everything about a run that is neither model, data nor optimizer."""

    seed: int = number(0, SEED)
    """Fixes the initial weights, the order of the data and every random number, and so every bit of the run."""
    train_batch_size: int = number(32, SIZE)
    """Sequences in one step, over all devices: the size of axis `batch`."""
    microbatches: int = number(1, SIZE)
    """Parts of a batch whose gradients are made one after another and added: the same update in less memory."""
    frozen: list[str] = field(default_factory=list)
    """Patterns of names of parameters that stay as they are, such as embeddings.*; they have no optimizer state."""
    num_train_steps: int = number(1000, SIZE)
    """Steps of the whole run, those before a resume included."""
    mesh: str | None = None
    """Device mesh, such as 4x2 (data=4, model=2) or replica=2,data=4,model=2, any axes; null trains on one device."""
    deterministic: str = word("fast", ("fast", "elastic"))
    """What gives the same bits: the same run on the same mesh (fast), or on any number of devices (elastic)."""
    virtual_shards: int = number(16, at_least(2))
    """Parts of a batch that an elastic run computes one by one and adds up in one order: two or more on each device."""
    hardware: str = "v5e"
    """The chip to plan for: v4, v5e, v5p, v6e, a100, h100, h200, or my_chips.yaml:NAME for one of your own."""
    run_dir: str | None = None
    """Where the run is kept; null means runs/RUN_NAME below the working directory."""
    run_name: str | None = None
    """Name of the run; null takes the name of the config."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval_every: int = number(500, COUNT)
    """Steps between evaluations on held-out text; 0 evaluates at the end only."""
    eval_batches: int = number(16, COUNT)
    """Batches of one evaluation; 0 turns evaluation off."""
    sample_tokens: int = number(64, COUNT)
    """Tokens of the sample printed at the end; 0 prints none."""

    def __post_init__(self) -> None:
        check(self, "trainer")
        if self.train_batch_size % self.microbatches:
            raise errors.microbatches_do_not_divide(self.train_batch_size, self.microbatches)
        if self.elastic and self.train_batch_size % (self.virtual_shards * self.microbatches):
            raise errors.virtual_shards_do_not_divide(self.train_batch_size, self.virtual_shards, self.microbatches)

    @property
    def elastic(self) -> bool:
        """Whether the bits of the run are the same on any number of devices."""
        return self.deterministic == "elastic"
