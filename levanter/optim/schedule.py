"""The learning rate as a function of the step: it rises in a warmup, then falls as the schedule says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from levanter.optim.config import OptimizerConfig

Schedule = Callable[[Any], Any]
"""From the number of steps done (a number or a traced int32) to the rate of the next step."""


def warmup_steps(config: OptimizerConfig, num_train_steps: int) -> int:
    """Steps of the warmup: `warmup` itself, or that fraction of all steps where it is below 1."""
    steps = round(config.warmup * num_train_steps) if config.warmup < 1 else round(config.warmup)
    return min(steps, num_train_steps)


def learning_rate(config: OptimizerConfig, num_train_steps: int) -> Schedule:
    """The schedule of a run of `num_train_steps` steps."""
    warmup = warmup_steps(config, num_train_steps)
    peak, rest = config.learning_rate, max(1, num_train_steps - warmup)
    if config.lr_schedule == "cosine":
        fall = optax.cosine_decay_schedule(peak, rest, alpha=config.min_lr_ratio)
    elif config.lr_schedule == "linear":
        fall = optax.linear_schedule(peak, peak * config.min_lr_ratio, rest)
    else:
        fall = optax.constant_schedule(peak)
    if warmup == 0:
        return fall

    # The first step already moves: step s of the warmup has rate peak * (s + 1) / warmup.
    rise = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([rise, fall], [warmup])
