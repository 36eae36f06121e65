"""What an optimizer is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import draccus

from levanter.fields import LARGEST_SIZE, at_least, between, check, number, word
from levanter.registry import OPTIMIZERS, Choice

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer

LR_SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class OptimizerConfig(Choice, draccus.ChoiceRegistry, abc.ABC, registry=OPTIMIZERS):
    """A kind of optimizer, chosen by `type:`. Every one has a learning-rate schedule."""

    learning_rate: float = number(6e-4, at_least(0))
    """The highest learning rate, reached at the end of the warmup."""
    warmup: float = number(0.01, between(0, LARGEST_SIZE))
    """Steps over which the rate rises from 0: a fraction of all steps if below 1, else a number of steps."""
    lr_schedule: str = word("cosine", LR_SCHEDULES)
    """How the rate falls after the warmup: cosine, linear or constant."""
    min_lr_ratio: float = number(0.1, between(0, 1))
    """The rate at the last step, as a fraction of `learning_rate` (constant does not fall)."""

    def __post_init__(self) -> None:
        check(self, "optimizer")

    @abc.abstractmethod
    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        """The optimizer for a run of `num_train_steps` steps.

        Args:
            decays: what weight decay applies to, if there is any; the model says it.
        """
