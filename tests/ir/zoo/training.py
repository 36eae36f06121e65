"""What the models of the zoo share: a whole training step as people write it with optax, and numbers to run it on.

Sizes differ from axis to axis, so that a mixed-up pair of names shows; what a mesh should split has a factor 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from haliax import Axis, NamedArray

HIGHEST_TOKEN = 9
"""Token ids and labels of the batches lie below it, and so in every vocabulary of the zoo."""


class Step(NamedTuple):
    """A training step and the shapes of its arguments."""

    function: Callable[[Any, Any], Any]
    state: Any
    batch: Any


class State(eqx.Module):
    """What the step carries."""

    model: Any
    opt_state: Any


def training_step(
    init: Callable[[jax.Array], Any],
    loss_of: Callable[[Any, Any], jax.Array],
    optimizer: optax.GradientTransformation,
    batch: Any,
) -> Step:
    """Loss, backward pass and update of the model that `init` makes of a key."""

    def step(state: State, batch: Any) -> tuple[State, jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(state.model, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.model)
        return State(optax.apply_updates(state.model, updates), opt_state), loss

    def initial() -> State:
        model = init(jax.random.key(0))
        return State(model, optimizer.init(model))

    return Step(step, jax.eval_shape(initial), batch)


def floats(*axes: Axis) -> NamedArray:
    """The shape of float32 numbers with these axes."""
    return NamedArray(jax.ShapeDtypeStruct(tuple(axis.size for axis in axes), jnp.float32), axes)


def tokens(*axes: Axis) -> NamedArray:
    """The shape of int32 ids with these axes."""
    return NamedArray(jax.ShapeDtypeStruct(tuple(axis.size for axis in axes), jnp.int32), axes)


def arguments(step: Step, seed: int = 0) -> tuple[Any, Any]:
    """State and batch with numbers in them: a random model, an optimizer that starts, random inputs."""
    rng = np.random.default_rng(seed)

    def drawn(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return jnp.asarray(rng.integers(0, HIGHEST_TOKEN, leaf.shape), leaf.dtype)
        return jnp.asarray(0.2 * rng.standard_normal(leaf.shape), leaf.dtype)

    def started(path: Any, leaf: Any) -> Any:
        return jnp.zeros(leaf.shape, leaf.dtype) if _is_optimizer(path) else drawn(leaf)

    return jax.tree_util.tree_map_with_path(started, step.state), jax.tree.map(drawn, step.batch)


def _is_optimizer(path: Any) -> bool:
    """Whether a leaf of the state belongs to the optimizer or counts steps, which both start at zero."""
    return getattr(path[0], "name", "") in ("opt_state", "step")
