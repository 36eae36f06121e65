"""What an optimizer is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import draccus

from levanter.fields import LARGEST_SIZE, SIZE, above, at_least, between, check, fraction, number, word
from levanter.optim import errors
from levanter.registry import OPTIMIZERS, Choice

if TYPE_CHECKING:
    from levanter.optim.optimizer import Decays, Optimizer

MOMENT_DTYPES = ("float32", "bfloat16")
LARGEST_KEPT = 0.98
"""The most of a mean of squares that a step may keep where it is bfloat16, which has 8 digits: with more, what a step
adds is less than half of the last one."""
LR_SCHEDULES = ("cosine", "linear", "constant", "wsd", "inverse_sqrt", "cosine_cycles")


@dataclass(frozen=True)
class OptimizerConfig(Choice, draccus.ChoiceRegistry, abc.ABC, registry=OPTIMIZERS):
    """A kind of optimizer, chosen by `type:`. Every one has a learning-rate schedule."""

    learning_rate: float = number(6e-4, at_least(0))
    """The highest learning rate, reached at the end of the warmup."""
    warmup: float = number(0.01, between(0, LARGEST_SIZE))
    """Steps over which the rate rises from 0: a fraction of all steps if below 1, else a number of steps."""
    lr_schedule: str = word("cosine", LR_SCHEDULES)
    """How the rate falls after the warmup: cosine, linear, constant, wsd (constant, then down over `lr_decay`),
    inverse_sqrt (with the root of the steps done) or cosine_cycles (`lr_cycles` times from the top)."""
    schedule_steps: int | None = number(None, SIZE)
    """Steps of the whole schedule; null is `trainer.num_train_steps` as it is when the run starts: training for longer
    later leaves the rate of every step as it was."""
    min_lr_ratio: float = number(0.1, between(0, 1))
    """The rate at the last step of the schedule, as a fraction of `learning_rate` (constant does not fall)."""
    lr_decay: float = number(0.2, between(0, LARGEST_SIZE))
    """Steps at the end over which the rate of wsd falls: a fraction of all steps if below 1, else a number of steps."""
    lr_cycles: int = number(4, SIZE)
    """How many times the rate of cosine_cycles falls from the top; all cycles are of one length."""
    ema: float | None = number(None, fraction(zero=False))
    """Share of a running mean of the weights that a step keeps, such as 0.999: what is evaluated, sampled and exported;
    null evaluates the weights as they are."""

    def __post_init__(self) -> None:
        check(self, "optimizer")

    @property
    def averages(self) -> bool:
        """Whether other weights are evaluated than are trained."""
        return self.ema is not None

    @abc.abstractmethod
    def build(self, num_train_steps: int, decays: Decays) -> Optimizer:
        """The optimizer for a schedule of `num_train_steps` steps.

        Args:
            decays: what weight decay applies to, if there is any; the model says it.
        """


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters by name, by axes or by both, and what is different for them."""

    match: str | None = None
    """Names of parameters, with `*` for any text: `*.bias`, `blocks.attention.*`."""
    axes: str | None = None
    """Axes that a parameter must have, such as `vocab` or `embed mlp`."""
    learning_rate: float | None = number(None, at_least(0))
    """A factor on the learning rate."""
    weight_decay: float | None = number(None, at_least(0))
    """In place of the optimizer's, and of what the model says of it."""
    frozen: bool = False
    """Whether these parameters stay as they are."""

    def __post_init__(self) -> None:
        check(self, "optimizer.groups")
        if self.match is None and self.axes is None:
            raise errors.group_of_nothing()


@dataclass(frozen=True)
class ChainedConfig(OptimizerConfig):
    """What optimizers have in common that are made of stages (`levanter.optim.chain`): clipping, decay and groups."""

    weight_decay: float = number(0.1, at_least(0))
    """Applied to what the model says: for GPT-2 to matrices only, biases and norms are left alone."""
    max_grad_norm: float | None = number(1.0, above(0))
    """Gradients are scaled down to this global norm; null turns clipping off."""
    groups: list[ParameterGroup] = field(default_factory=list)
    """Parameters that are treated otherwise, such as [{match: "*.bias", weight_decay: 0.0}]. Each entry has `match` (a
    pattern of names), `axes` (names of axes) or both, and `learning_rate` (a factor), `weight_decay` or `frozen`; of
    two entries for one parameter the later one counts."""


@dataclass(frozen=True)
class MomentsConfig(ChainedConfig):
    """What optimizers have in common whose state is running means, one number of each for each of a parameter."""

    moments_dtype: str | None = word("float32", MOMENT_DTYPES)
    """What running means are kept in between steps, float32 or bfloat16; null leaves it to the plan, which takes
    bfloat16 where nothing else fits the memory of a device."""

    def _check_squares(self, kept: float) -> None:
        """Whether a mean of squares, of which a step keeps so much, does not stand still. Raises `UserError`."""
        if self.moments_dtype != "float32" and kept > LARGEST_KEPT:
            raise errors.mean_stands_still(self.moments_dtype, kept, LARGEST_KEPT)


def with_moments_in(optimizer: OptimizerConfig, dtype: str, source: str = "") -> OptimizerConfig:
    """The optimizer that keeps its running means in a dtype.

    Args:
        source: the file of a plan that says so.

    Raises:
        UserError: it has no such choice, or its mean of squares would stand still.
    """
    if not isinstance(optimizer, MomentsConfig):
        raise errors.no_moments(optimizer.get_choice_name(type(optimizer)), source)
    return replace(optimizer, moments_dtype=dtype)
