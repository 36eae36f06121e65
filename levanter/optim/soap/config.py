"""What SOAP is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from levanter.fields import SIZE, above, at_least, fraction, number
from levanter.optim.config import ChainedConfig

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer


@dataclass(frozen=True)
class SoapConfig(ChainedConfig):
    """SOAP (Vyas et al., 2024): Adam in the eigenbasis of Shampoo's preconditioner of each matrix."""

    learning_rate: float = number(3e-3, at_least(0))
    """The highest learning rate, reached at the end of the warmup."""
    weight_decay: float = number(0.01, at_least(0))
    """Applied to what the model says: for GPT-2 to matrices only, biases and norms are left alone."""
    beta1: float = number(0.95, fraction())
    """Share of the running mean of gradients that a step keeps."""
    beta2: float = number(0.95, fraction())
    """Share of the running means of squares that a step keeps."""
    epsilon: float = number(1e-8, above(0))
    """Added to the root of the mean square, so that a gradient of 0 is not divided by 0."""
    precondition_every: int = number(10, SIZE)
    """Steps between two updates of the eigenbases."""
    max_size: int = number(10000, SIZE)
    """A side of a matrix that is longer than this keeps the basis it has."""
    separate_axes: list[str] = field(default_factory=lambda: ["qkv"])
    """Axes along which a weight is several matrices, though they are inputs or outputs of its layer; those of stacked
    layers and of experts always are."""

    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        from levanter.optim.soap.soap import soap

        return soap(self, num_train_steps, decays)
