"""What Adafactor is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.fields import above, at_least, fraction, number
from levanter.optim.config import ChainedConfig

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer


@dataclass(frozen=True)
class AdafactorConfig(ChainedConfig):
    """Adafactor (Shazeer and Stern, 2018): of the squared gradients of a matrix only the means of rows and columns are
    kept, so that its state is a small part of the parameters."""

    learning_rate: float = number(1e-2, at_least(0))
    """The highest learning rate, reached at the end of the warmup; relative to a weight's size if `relative_step`."""
    weight_decay: float = number(0.0, at_least(0))
    """Applied to what the model says: for GPT-2 to matrices only, biases and norms are left alone."""
    decay_exponent: float = number(0.8, fraction(zero=False))
    """Step t keeps 1 - t^-decay_exponent of the running means of squared gradients."""
    clip_threshold: float | None = number(1.0, above(0))
    """The root mean square of an update is scaled down to this; null turns that off."""
    relative_step: bool = True
    """Whether a parameter's update is multiplied by the root mean square of the parameter (at least 1e-3)."""
    momentum: float | None = number(None, fraction())
    """Share of a running mean of updates that a step keeps; null keeps none, and no memory for it."""
    epsilon: float = number(1e-30, above(0))
    """Added to squared gradients."""

    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        from levanter.optim.adafactor.adafactor import adafactor

        return adafactor(self, num_train_steps, decays)
