"""A running mean of the weights (EMA), beside any optimizer: it is what is evaluated, sampled from and exported."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from levanter.optim.optimizer import Optimizer


class Averaged(NamedTuple):
    """The state of an optimizer whose weights are averaged."""

    count: Any  # int32 scalar: steps done
    average: Any  # as the parameters
    base: Any  # the state of the optimizer itself


def averaged(optimizer: Optimizer, decay: float) -> Optimizer:
    """The optimizer, with a mean of its weights of which a step keeps the share `decay`.

    In the first steps it keeps less, `(1 + step) / (10 + step)`, so that the mean is not one of the initial weights
    for long (as TensorFlow's ExponentialMovingAverage does).
    """
    base = optax.with_extra_args_support(optimizer.transform)

    def init(params: Any) -> Averaged:
        # A copy, since the step may be given the buffers of the parameters.
        return Averaged(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params), base.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Averaged]:
        updates, inner = base.update(updates, state.base, params, **extra)
        count = state.count + 1
        kept = jnp.minimum(decay, (1.0 + count) / (10.0 + count))
        new = optimizer.eval_params(inner, optax.apply_updates(params, updates))
        average = jax.tree.map(lambda old, new: old + (1.0 - kept) * (new - old), state.average, new)
        return updates, Averaged(count, average, inner)

    def evaluated(state: Averaged, parameters: Any) -> Any:
        return state.average

    return Optimizer(optax.GradientTransformationExtraArgs(init, update), optimizer.learning_rate, evaluated)
