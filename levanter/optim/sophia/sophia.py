"""Sophia-H over named parameters (Liu et al., 2023, arXiv:2305.14342, algorithms 1 and 3).

    update = clip(m / max(gamma · h, epsilon), 1)

m is a running mean of gradients. h is one of Hutchinson's estimates of the Hessian's diagonal, `u ⊙ ∇(∇L · u)` with a
random normal u; one is made every few steps, of the loss that the training step hands to the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from levanter.optim.chain import chained
from levanter.optim.optimizer import Decays, Optimizer
from levanter.paths import map_named
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.optim.sophia.config import SophiaConfig

Loss = Callable[[Any], jax.Array]


class SophiaState(NamedTuple):
    """Running means: of gradients, and of the Hessian's diagonal."""

    count: Any  # int32 scalar: steps done
    mu: Any
    hessian: Any


def sophia(config: SophiaConfig, num_train_steps: int, decays: Decays) -> Optimizer:
    """The optimizer that `config` describes, for a run of `num_train_steps` steps; `decays` says what decays."""
    return chained(config, num_train_steps, decays, "sophia", scale_by_sophia(config))


def scale_by_sophia(config: SophiaConfig) -> optax.GradientTransformationExtraArgs:
    """Gradients to momentum over the Hessian's diagonal, between -1 and 1; `update` needs `loss` and `key`."""

    def init(params: Any) -> SophiaState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return SophiaState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.copy, zeros))

    def update(
        updates: Any, state: Any, params: Any = None, *, loss: Any = None, key: Any = None, **_: Any
    ) -> tuple[Any, SophiaState]:
        mu = jax.tree.map(lambda m, g: config.beta1 * m + (1.0 - config.beta1) * g, state.mu, updates)

        def estimated(hessian: Any) -> Any:
            new = hessian_diagonal(loss, params, key)
            return jax.tree.map(lambda h, n: config.beta2 * h + (1.0 - config.beta2) * n, hessian, new)

        due = state.count % config.hessian_every == 0
        hessian = jax.lax.cond(due, estimated, lambda hessian: hessian, state.hessian)

        def cut(m: Any, h: Any) -> Any:
            return jnp.clip(m / jnp.maximum(config.gamma * h, config.epsilon), -1.0, 1.0)

        return jax.tree.map(cut, mu, hessian), SophiaState(state.count + 1, mu, hessian)

    return optax.GradientTransformationExtraArgs(init, update)


def hessian_diagonal(loss: Loss, parameters: Any, key: jax.Array) -> Any:
    """Hutchinson's estimate of the diagonal of the loss's Hessian, in the structure of the parameters."""

    def normal(name: str, leaf: Any) -> Any:
        # Each parameter has a key by its name, so that one more parameter changes no other estimate.
        return jax.tree.map(lambda x: jax.random.normal(rng.named(key, name), x.shape, x.dtype), leaf)

    directions = map_named(normal, parameters)
    _, products = jax.jvp(jax.grad(loss), (parameters,), (directions,))
    return jax.tree.map(jnp.multiply, directions, products)
