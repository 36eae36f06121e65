"""What an optimizer is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import draccus

from levanter.optim import errors

if TYPE_CHECKING:
    from levanter.optim.adamw.adamw import Optimizer

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
