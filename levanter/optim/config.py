"""What an optimizer is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import draccus

from levanter.optim import errors

if TYPE_CHECKING:
    from levanter.optim.adamw import Optimizer

LR_SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class OptimizerConfig(draccus.ChoiceRegistry, abc.ABC):
    """A kind of optimizer, chosen by `type:`. Every one has a learning-rate schedule."""

    learning_rate: float = 6e-4
    """The highest learning rate, reached at the end of the warmup."""
    warmup: float = 0.01
    """Steps over which the rate rises from 0: a fraction of all steps if below 1, else a number of steps."""
    lr_schedule: str = "cosine"
    """How the rate falls after the warmup: cosine, linear or constant."""
    min_lr_ratio: float = 0.1
    """The rate at the last step, as a fraction of `learning_rate` (constant does not fall)."""

    def __post_init__(self) -> None:
        if self.lr_schedule not in LR_SCHEDULES:
            raise errors.bad_schedule(self.lr_schedule, LR_SCHEDULES)
        if self.learning_rate < 0:
            raise errors.out_of_range("learning_rate", self.learning_rate, "at least 0")
        if self.warmup < 0:
            raise errors.out_of_range("warmup", self.warmup, "at least 0")
        if not 0 <= self.min_lr_ratio <= 1:
            raise errors.out_of_range("min_lr_ratio", self.min_lr_ratio, "between 0 and 1")

    @classmethod
    def default_choice_name(cls) -> str:
        return "adamw"

    @abc.abstractmethod
    def build(self, num_train_steps: int) -> Optimizer:
        """The optimizer for a run of `num_train_steps` steps."""


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
        from levanter.optim.adamw import adamw

        return adamw(self, num_train_steps)
