"""A neural differential equation: `diffrax` solves it, and the loss compares the path with a measured one."""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from corpus.case import Case, Floats, Sizes, Step
from corpus.equinox_steps import module_step


class Field(eqx.Module):
    mlp: eqx.nn.MLP

    def __call__(self, t: Any, y: jax.Array, args: Any) -> jax.Array:
        return self.mlp(y)


class Flow(eqx.Module):
    field: Field

    def __init__(self, sizes: Sizes, key: jax.Array):
        self.field = Field(eqx.nn.MLP(sizes.features, sizes.features, sizes.hidden, 2, jax.nn.softplus, key=key))

    def __call__(self, start: jax.Array, times: jax.Array) -> jax.Array:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(self.field),
            diffrax.Tsit5(),
            t0=0.0,
            t1=1.0,
            dt0=0.1,
            y0=start,
            saveat=diffrax.SaveAt(ts=times),
            max_steps=16,
        )
        return solution.ys


def first_of(path: jax.Array) -> jax.Array:
    """The state of every example at the first time."""
    return path[:, 0]


def neural_ode(sizes: Sizes) -> Step:
    def loss_of(model: Any, batch: dict[str, Any]) -> jax.Array:
        times = jnp.linspace(0.0, 1.0, sizes.position)
        path = jax.vmap(model, in_axes=(0, None))(first_of(batch["path"]), times)
        return jnp.square(path - batch["path"]).mean()

    return module_step(
        lambda key: Flow(sizes, key),
        loss_of,
        {"path": Floats((sizes.batch, sizes.position, sizes.features))},
        {
            "*.layers.0.weight": "hidden features",
            "*.layers.0.bias": "hidden",
            "*.layers.1.bias": "hidden",
            "*.layers.2.weight": "features hidden",
            "*.layers.2.bias": "features",
            "batch.path": "batch position features",
        },
    )


# The solver's stages, checkpoints and steps are axes of its own: no argument has them.
CASES = {"diffrax neural ODE": Case(neural_ode, made=0.3)}
