"""Running means of gradients that are kept in a shorter dtype than they are computed in.

A state of bfloat16 is half as large, in memory, in a checkpoint and on the way to and from memory. Each step reads it
as float32, updates it, and rounds it to the nearest bfloat16. What a mean gains in a step must not be less than half of
its last digit, or it would stand still; gradients change enough from step to step for their mean, and their squares do
where a step keeps little enough (`levanter.optim.config.LARGEST_KEPT`). DeepSeek-V3 keeps both so (DeepSeek-AI, 2024,
section 3.3.3).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax


def kept_as(dtype: str | None, transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """The transformation with its float32 state kept in another dtype between steps; None keeps it as it is."""
    if dtype in (None, "float32"):
        return transform

    def init(params: Any) -> Any:
        return _cast(transform.init(params), jnp.float32, dtype)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        made, after = transform.update(updates, _cast(state, dtype, jnp.float32), params)
        return made, _cast(after, jnp.float32, dtype)

    return optax.GradientTransformation(init, update)


def _cast(tree: Any, before: Any, after: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(after) if leaf.dtype == before else leaf, tree)
