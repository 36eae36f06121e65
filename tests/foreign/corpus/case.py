"""What the steps of the corpus share: sizes, a batch, a whole training step, and names for its arguments.

A step is what a user of the library writes: forward, backward and update, in plain arrays. Names are given beside its
arguments, by path; nothing inside is named. Each step is built twice: with sizes that all differ, so that a mixed-up
pair shows by its sizes too, and with sizes as equal as the architecture allows, where only names can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Names = Mapping[str, str]
"""From patterns of paths to the axes of what they match."""


@dataclass(frozen=True)
class Sizes:
    """One size an axis. Those that a mesh of 4 x 2 splits have a factor 8."""

    batch: int = 8
    position: int = 12
    source: int = 20
    embed: int = 24
    mlp: int = 40
    heads: int = 4
    head_size: int = 14
    kv_heads: int = 2
    vocab: int = 48
    classes: int = 10
    height: int = 18
    width: int = 30
    color: int = 3
    filters: int = 32
    wide: int = 64
    hidden: int = 56
    layers: int = 5
    features: int = 6
    patch: int = 2


DISTINCT = Sizes()
EQUAL = replace(Sizes(**{field.name: 16 for field in fields(Sizes)}), patch=4)


class Step(NamedTuple):
    """A training step `function(state, batch)`, what makes its arguments, and their names."""

    function: Callable[[Any, Any], Any]
    initial: Callable[[], tuple[Any, Any]]
    names: Names

    @property
    def arguments(self) -> tuple[Any, Any]:
        """The shapes of the arguments."""
        return jax.eval_shape(self.initial)


class State(NamedTuple):
    """What the step carries. `extra` is what is no parameter, as running averages."""

    params: Any
    opt_state: Any
    extra: Any = ()


class Case(NamedTuple):
    """A step of the corpus.

    Attributes:
        build: the step at some sizes.
        small: whether it is fast enough for the default suite.
        tolerance: how far eight devices may be from one, relative to the largest element.
        named: the share of dims that must have names.
        made: the share of dims that may have a name that staging made up, as an axis that the step itself counts,
            fills or stacks and that meets no other.
    """

    build: Callable[[Sizes], Step]
    small: bool = False
    tolerance: float = 2e-3
    named: float = 0.98
    made: float = 0.02


class Floats(NamedTuple):
    """An array of the batch: random numbers."""

    shape: tuple[int, ...]

    def drawn(self, key: jax.Array) -> jax.Array:
        return jax.random.normal(key, self.shape)


class Ids(NamedTuple):
    """An array of the batch: random ids below `bound`."""

    bound: int
    shape: tuple[int, ...]

    def drawn(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, self.shape, 0, self.bound)


class Mask(NamedTuple):
    """An array of the batch: ones, then zeros, in each row."""

    shape: tuple[int, ...]

    def drawn(self, key: jax.Array) -> jax.Array:
        lengths = jax.random.randint(key, (*self.shape[:-1], 1), self.shape[-1] // 2, self.shape[-1])
        return jnp.arange(self.shape[-1]) < lengths


def drawn(batch: Mapping[str, Floats | Ids | Mask]) -> dict[str, jax.Array]:
    """The batch with numbers in it."""
    keys = jax.random.split(jax.random.key(7), len(batch))
    return {name: field.drawn(key) for key, (name, field) in zip(keys, batch.items(), strict=True)}


def training(
    init: Callable[[jax.Array, dict[str, Any]], Any],
    loss_of: Callable[[Any, dict[str, Any]], jax.Array],
    batch: Mapping[str, Floats | Ids | Mask],
    names: Names,
    optimizer: Any = None,
) -> Step:
    """The step of a model without running averages.

    Args:
        init: parameters from a random key and a batch.
        loss_of: the loss, a number, from parameters and a batch.
    """
    return training_with_extra(
        lambda key, inputs: (init(key, inputs), ()),
        lambda params, extra, inputs: (loss_of(params, inputs), extra),
        batch,
        names,
        optimizer,
    )


def training_with_extra(
    init: Callable[[jax.Array, dict[str, Any]], tuple[Any, Any]],
    loss_of: Callable[[Any, Any, dict[str, Any]], tuple[jax.Array, Any]],
    batch: Mapping[str, Floats | Ids | Mask],
    names: Names,
    optimizer: Any = None,
) -> Step:
    """The step of a model that carries more than parameters, as the running averages of a batch norm."""
    # The large epsilon: where a gradient is zero but for rounding (a key's bias), Adam would blow the rounding up.
    update = optimizer if optimizer is not None else optax.adamw(1e-3, eps=1e-3)

    def step(state: State, batch: dict[str, Any]) -> tuple[State, jax.Array]:
        (loss, extra), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params, state.extra, batch)
        updates, opt_state = update.update(gradients, state.opt_state, state.params)
        return State(optax.apply_updates(state.params, updates), opt_state, extra), loss

    def initial() -> tuple[State, dict[str, Any]]:
        inputs = drawn(batch)
        params, extra = init(jax.random.key(1), inputs)
        return State(params, update.init(params), extra), inputs

    return Step(step, initial, names)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over all labels."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def leaves(tree: Any) -> list[np.ndarray]:
    """All numbers of a tree; a random key as the words it is made of."""

    def plain(leaf: Any) -> np.ndarray:
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [plain(leaf) for leaf in jax.tree.leaves(tree)]
