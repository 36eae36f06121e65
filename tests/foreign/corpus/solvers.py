"""Steps that solve something inside: `optimistix`, and a loop of Equinox that keeps checkpoints for the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx

from corpus.case import Case, Floats, Sizes, Step, training
from corpus.plain import normal

NAMES = {
    "*.w": "hidden hidden",
    "*.u": "features hidden",
    "*.out": "hidden classes",
    "batch.x": "batch features",
    "batch.y": "batch classes",
}


def step_of(hidden_of: Callable[[Any, jax.Array, Sizes], jax.Array]) -> Callable[[Sizes], Step]:
    """A regression on hidden states `hidden_of(params, x, sizes)`."""

    def build(sizes: Sizes) -> Step:
        def loss_of(params: Any, batch: Any) -> jax.Array:
            return jnp.square(hidden_of(params, batch["x"], sizes) @ params["out"] - batch["y"]).mean()

        shapes = {
            "w": (sizes.hidden, sizes.hidden),
            "u": (sizes.features, sizes.hidden),
            "out": (sizes.hidden, sizes.classes),
        }
        batch = {"x": Floats((sizes.batch, sizes.features)), "y": Floats((sizes.batch, sizes.classes))}
        # Small weights: the iteration contracts.
        return training(lambda key, _: jax.tree.map(lambda w: 0.1 * w, normal(key, shapes)), loss_of, batch, NAMES)

    return build


def fixed_point(params: Any, x: jax.Array, sizes: Sizes) -> jax.Array:
    """A deep equilibrium: the state that a layer maps to itself."""

    def layer(hidden: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(hidden @ params["w"] + x @ params["u"])

    solver = optx.FixedPointIteration(rtol=1e-3, atol=1e-3)
    start = jnp.zeros((sizes.batch, sizes.hidden))
    return optx.fixed_point(layer, solver, start, x, max_steps=8, throw=False).value


def root(params: Any, x: jax.Array, sizes: Sizes) -> jax.Array:
    """The root of a residual for each example, by Newton's method."""

    def residual(hidden: jax.Array, x: jax.Array) -> jax.Array:
        return hidden + 0.1 * jnp.tanh(params["w"] @ hidden) - params["u"].T @ x

    def solved(x: jax.Array) -> jax.Array:
        solver = optx.Newton(rtol=1e-3, atol=1e-3)
        return optx.root_find(residual, solver, jnp.zeros(sizes.hidden), x, max_steps=8, throw=False).value

    return jax.vmap(solved)(x)


def checkpointed(params: Any, x: jax.Array, sizes: Sizes) -> jax.Array:
    """A recurrence of which some states are kept and the others computed again."""

    def body(carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        count, hidden = carry
        return count + 1, jnp.tanh(hidden @ params["w"] + x @ params["u"])

    start = 0, jnp.zeros((sizes.batch, sizes.hidden))
    return eqx.internal.while_loop(
        lambda carry: carry[0] < sizes.layers, body, start, max_steps=sizes.layers, kind="checkpointed", checkpoints=3
    )[1]


CASES = {
    "optimistix fixed point": Case(step_of(fixed_point), made=0.1),
    "optimistix Newton": Case(step_of(root), made=0.1),
    "equinox checkpointed loop": Case(step_of(checkpointed), made=0.3),
}
