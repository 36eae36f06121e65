"""What AdamW is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.fields import above, at_least, fraction, number
from levanter.optim.config import OptimizerConfig

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer


@dataclass(frozen=True)
class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019) and clipping of the global gradient norm."""

    weight_decay: float = number(0.1, at_least(0))
    """Applied to what the model says: for GPT-2 to matrices only, biases and norms are left alone."""
    beta1: float = number(0.9, fraction())
    """Share of the running mean of gradients that a step keeps."""
    beta2: float = number(0.95, fraction())
    """Share of the running mean of squared gradients that a step keeps."""
    epsilon: float = number(1e-8, above(0))
    """Added to the root of the mean square, so that a gradient of 0 is not divided by 0."""
    max_grad_norm: float | None = number(1.0, above(0))
    """Gradients are scaled down to this global norm; null turns clipping off."""

    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        from levanter.optim.adamw.adamw import adamw

        return adamw(self, num_train_steps, decays)
