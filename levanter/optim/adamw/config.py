"""What AdamW is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levanter.optim import errors
from levanter.optim.config import OptimizerConfig

if TYPE_CHECKING:
    from levanter.optim.adamw.adamw import Optimizer


@OptimizerConfig.register_subclass("adamw")
@dataclass(frozen=True)
class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019) and clipping of the global gradient norm."""

    weight_decay: float = 0.1
    """Applied to matrices only; biases and norms are left alone."""
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    max_grad_norm: float | None = 1.0
    """Gradients are scaled down to this global norm; null turns clipping off."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("beta1", "beta2"):
            if not 0 <= getattr(self, field) < 1:
                raise errors.out_of_range(field, getattr(self, field), "at least 0 and below 1")
        if self.weight_decay < 0:
            raise errors.out_of_range("weight_decay", self.weight_decay, "at least 0")
        if self.epsilon <= 0:
            raise errors.out_of_range("epsilon", self.epsilon, "above 0")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise errors.out_of_range("max_grad_norm", self.max_grad_norm, "above 0, or null for no clipping")

    def build(self, num_train_steps: int) -> Optimizer:
        from levanter.optim.adamw.adamw import adamw

        return adamw(self, num_train_steps)
