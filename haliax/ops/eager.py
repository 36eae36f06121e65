"""Operations of `jax.lax` that are quick outside of a trace too.

There a compiled call is several times cheaper than binding a primitive. Inside of a trace a call in the program would
only make it longer, so there they are the plain operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import lax
from jax.core import Tracer

F = TypeVar("F", bound=Callable[..., Any])


def quick(function: F, *static: int) -> F:
    """The function, compiled where no argument is traced; `static` numbers arguments that are structure."""
    return _either(function, jax.jit(function, static_argnums=static))


def _either(traced: F, compiled: Any) -> F:
    def call(*args: Any) -> Any:
        for arg in args:
            if isinstance(arg, Tracer):
                return traced(*args)
        return compiled(*args)

    call.__name__ = call.__qualname__ = traced.__name__
    call.__doc__ = traced.__doc__
    return call  # type: ignore[return-value]


def _element(array: Any, number: Any, dimension: int) -> Any:
    """The array at the place `number` of a dimension, which goes away."""
    return lax.index_in_dim(array, number, dimension, keepdims=False)


def _element_at_any(array: Any, number: Any, dimension: int) -> Any:
    return lax.dynamic_index_in_dim(array, number, dimension, keepdims=False)


def _window(array: Any, start: Any, length: int, dimension: int) -> Any:
    """So many elements of a dimension, from `start` on."""
    return lax.slice_in_dim(array, start, start + length, axis=dimension)


transpose = quick(lax.transpose, 1)
expand_dims = quick(lax.expand_dims, 1)

# Compiled, these take the place as an argument: a loop over places then compiles once.
element = _either(_element, jax.jit(_element_at_any, static_argnums=2))
window = _either(_window, jax.jit(lax.dynamic_slice_in_dim, static_argnums=(2, 3)))
