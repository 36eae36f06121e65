"""The global norm of gradients, and clipping by it.

An elastic run adds up the squares of each array in pieces along one of its axes, whatever the devices have of it. Which
axis that is follows from the model alone: the one that most elements of the model lie along, of those that the pieces
divide, as FSDP would store it by that axis as well.
"""

from __future__ import annotations

from collections import Counter
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import optax

from haliax import NamedArray
from haliax.core.in_order import square_sum
from haliax.jax_utils import is_named


def global_norm(gradients: Any, pieces: int | None = None) -> jax.Array:
    """The root of the sum of all squares, a float32 scalar.

    Args:
        pieces: of an elastic run; None adds up in any order.
    """
    if pieces is None:
        return optax.tree.norm(gradients)
    leaves = jax.tree.leaves(gradients, is_leaf=is_named)
    weights: Counter[str] = Counter()
    for leaf in leaves:
        weights.update({name: _array(leaf).size for name in _divided(leaf, pieces)})

    def squares(leaf: Any) -> jax.Array:
        divided = _divided(leaf, pieces)
        along = max(divided, key=lambda name: (weights[name], name), default=None)
        array = _array(leaf).astype(jnp.float32)
        return square_sum(array, None if along is None else divided[along], pieces)

    return jnp.sqrt(reduce(jnp.add, [squares(leaf) for leaf in leaves]))


def clipped_by_global_norm(highest: float) -> optax.GradientTransformationExtraArgs:
    """Gradients scaled down to a global norm; `update` may be given theirs as `norm`."""
    plain = optax.clip_by_global_norm(highest)

    def update(updates: Any, state: Any, params: Any = None, *, norm: Any = None, **_: Any) -> tuple[Any, Any]:
        if norm is None:
            return plain.update(updates, state, params)
        small = norm < highest

        def clipped(gradient: jax.Array) -> jax.Array:
            return jnp.where(small, gradient, (gradient / norm.astype(gradient.dtype)) * highest)

        return jax.tree.map(clipped, updates), state

    return optax.GradientTransformationExtraArgs(plain.init, update)


def _array(leaf: Any) -> jax.Array:
    return leaf.array if isinstance(leaf, NamedArray) else leaf


def _divided(leaf: Any, pieces: int) -> dict[str, int]:
    """The axes that so many pieces divide, with their places; the first of two of one name."""
    if not isinstance(leaf, NamedArray):
        return {}
    found: dict[str, int] = {}
    for place, axis in enumerate(leaf.axes):
        if axis.size % pieces == 0:
            found.setdefault(axis.name, place)
    return found
