"""What Sophia-H is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.fields import SIZE, above, at_least, fraction, number
from levanter.optim.config import ChainedConfig

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer


@dataclass(frozen=True)
class SophiaConfig(ChainedConfig):
    """Sophia-H (Liu et al., 2023): momentum over an estimate of the diagonal of the Hessian, cut at 1 in each place."""

    weight_decay: float = number(0.2, at_least(0))
    """Applied to what the model says: for GPT-2 to matrices only, biases and norms are left alone."""
    beta1: float = number(0.96, fraction())
    """Share of the running mean of gradients that a step keeps."""
    beta2: float = number(0.99, fraction())
    """Share of the running mean of the Hessian's diagonal that an estimate keeps."""
    gamma: float = number(0.01, above(0))
    """Times the Hessian's diagonal is what the momentum is divided by: smaller cuts more."""
    epsilon: float = number(1e-12, above(0))
    """The least that the momentum is divided by."""
    hessian_every: int = number(10, SIZE)
    """Steps between two estimates, each of which costs about two steps; with `trainer.microbatches` of the first."""

    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        from levanter.optim.sophia.sophia import sophia

        return sophia(self, num_train_steps, decays)
