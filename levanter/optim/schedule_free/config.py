"""What schedule-free AdamW is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.fields import above, at_least, fraction, number, word
from levanter.optim.config import LR_SCHEDULES, ChainedConfig

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer


@dataclass(frozen=True)
class ScheduleFreeConfig(ChainedConfig):
    """Schedule-free AdamW (Defazio et al., 2024): a mean of the weights takes the place of a falling rate. The mean is
    what is evaluated, sampled and exported."""

    learning_rate: float = number(2.5e-3, at_least(0))
    """The learning rate after the warmup."""
    lr_schedule: str = word("constant", LR_SCHEDULES)
    """How the rate falls after the warmup; constant is what the method is for."""
    beta1: float = number(0.9, fraction(zero=False))
    """Share of the mean in the weights that gradients are taken at."""
    beta2: float = number(0.95, fraction())
    """Share of the running mean of squared gradients that a step keeps."""
    epsilon: float = number(1e-8, above(0))
    """Added to the root of the mean square, so that a gradient of 0 is not divided by 0."""
    weight_lr_power: float = number(2.0, at_least(0))
    """A step counts in the mean with this power of its learning rate, so that those of the warmup count less."""

    @property
    def averages(self) -> bool:
        return True

    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        from levanter.optim.schedule_free.schedule_free import schedule_free

        return schedule_free(self, num_train_steps, decays)
