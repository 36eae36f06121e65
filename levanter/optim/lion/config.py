"""What Lion is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.fields import at_least, fraction, number
from levanter.optim.config import MomentsConfig

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer


@dataclass(frozen=True)
class LionConfig(MomentsConfig):
    """Lion (Chen et al., 2023): the sign of a momentum. Its rate is 3 to 10 times lower than Adam's, its decay as much
    higher."""

    learning_rate: float = number(1e-4, at_least(0))
    """The highest learning rate, reached at the end of the warmup: how far each weight moves in a step."""
    weight_decay: float = number(1.0, at_least(0))
    """Applied to what the model says: for GPT-2 to matrices only, biases and norms are left alone."""
    beta1: float = number(0.9, fraction())
    """Share of the momentum in the sign that a step takes."""
    beta2: float = number(0.99, fraction())
    """Share of the momentum that a step keeps."""

    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        from levanter.optim.lion.lion import lion

        return lion(self, num_train_steps, decays)
