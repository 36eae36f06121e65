"""What AdamW is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.fields import above, fraction, number
from levanter.optim.config import MomentsConfig

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer


@dataclass(frozen=True)
class AdamWConfig(MomentsConfig):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019) and clipping of the global gradient norm."""

    beta1: float = number(0.9, fraction())
    """Share of the running mean of gradients that a step keeps."""
    beta2: float = number(0.95, fraction())
    """Share of the running mean of squared gradients that a step keeps."""
    epsilon: float = number(1e-8, above(0))
    """Added to the root of the mean square, so that a gradient of 0 is not divided by 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_squares(self.beta2)

    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        from levanter.optim.adamw.adamw import adamw

        return adamw(self, num_train_steps, decays)
