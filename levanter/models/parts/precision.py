"""What a model computes in."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

Model = TypeVar("Model")


def in_dtype(model: Model, dtype: str) -> Model:
    """The model with every parameter in the dtype that products are computed in; norms go back to float32 inside."""
    return jax.tree.map(lambda parameter: parameter.astype(dtype), model)


def floats_in_dtype(model: Model, dtype: str | None) -> Model:
    """The model with every parameter that is a floating-point number in `dtype`; as it is where that is None."""
    if dtype is None:
        return model
    return jax.tree.map(lambda each: each.astype(dtype) if jnp.issubdtype(each.dtype, jnp.floating) else each, model)
