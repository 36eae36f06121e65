"""The learning rate as a function of the step: it rises in a warmup, then falls as the schedule says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from levanter.optim.config import OptimizerConfig

Schedule = Callable[[Any], Any]
"""From the number of steps done (a number or a traced int32) to the rate of the next step."""


def warmup_steps(config: OptimizerConfig, num_train_steps: int) -> int:
    """Steps of the warmup: `warmup` itself, or that fraction of all steps where it is below 1."""
    return _steps(config.warmup, num_train_steps)


def learning_rate(config: OptimizerConfig, num_train_steps: int) -> Schedule:
    """The schedule of a run of `num_train_steps` steps."""
    warmup = warmup_steps(config, num_train_steps)
    fall = _SCHEDULES[config.lr_schedule](config, warmup, max(1, num_train_steps - warmup))
    if warmup == 0:
        return fall

    # The first step already moves: step s of the warmup has rate peak * (s + 1) / warmup.
    rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, max(1, warmup - 1))
    return optax.join_schedules([rise, fall], [warmup])


def _steps(of: float, num_train_steps: int) -> int:
    return min(round(of * num_train_steps) if of < 1 else round(of), num_train_steps)


# Each gives the rate at the steps after the warmup, counted from 0, of which there are `rest`.


def _cosine(config: OptimizerConfig, warmup: int, rest: int) -> Schedule:
    return optax.cosine_decay_schedule(config.learning_rate, rest, alpha=config.min_lr_ratio)


def _linear(config: OptimizerConfig, warmup: int, rest: int) -> Schedule:
    return optax.linear_schedule(config.learning_rate, config.learning_rate * config.min_lr_ratio, rest)


def _constant(config: OptimizerConfig, warmup: int, rest: int) -> Schedule:
    return optax.constant_schedule(config.learning_rate)


def _wsd(config: OptimizerConfig, warmup: int, rest: int) -> Schedule:
    """Warmup, stable, decay (Hu et al., 2024, MiniCPM): constant, then linearly down to the least."""
    falling = min(_steps(config.lr_decay, warmup + rest), rest)
    return optax.linear_schedule(
        config.learning_rate, config.learning_rate * config.min_lr_ratio, max(1, falling), rest - falling
    )


def _inverse_sqrt(config: OptimizerConfig, warmup: int, rest: int) -> Schedule:
    """With the root of the steps done (Vaswani et al., 2017), never below the least."""
    start = max(1, warmup)

    def rate(step: Any) -> Any:
        falling = jnp.sqrt(start / jnp.maximum(step + start, start).astype(jnp.float32))
        return config.learning_rate * jnp.maximum(falling, config.min_lr_ratio)

    return rate


def _cosine_cycles(config: OptimizerConfig, warmup: int, rest: int) -> Schedule:
    """Cosines one after another, each from the top (Loshchilov and Hutter, 2017, SGDR)."""
    ends = [rest * (cycle + 1) // config.lr_cycles for cycle in range(config.lr_cycles)]
    starts = [0, *ends[:-1]]
    falls = [_cosine(config, warmup, max(1, end - start)) for start, end in zip(starts, ends, strict=True)]
    return optax.join_schedules(falls, ends[:-1])


_SCHEDULES = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
    "wsd": _wsd,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_cycles": _cosine_cycles,
}
