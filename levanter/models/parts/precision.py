"""What a model computes in."""

from __future__ import annotations

from typing import TypeVar

import jax

Model = TypeVar("Model")


def in_dtype(model: Model, dtype: str) -> Model:
    """The model with every parameter in the dtype that products are computed in; norms go back to float32 inside."""
    return jax.tree.map(lambda parameter: parameter.astype(dtype), model)
