"""What computes the products of a layer: `jax.lax.dot_general`, or something in its place.

A layer holds an *operation*, a module that is called like `jax.lax.dot_general`. The default has no state. Others
compute in fewer bits and keep state between steps (`haliax.quantization`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
from jax import lax


class DotGeneralOp(Protocol):
    """What may stand in the place of `jax.lax.dot_general` in a layer."""

    def __call__(
        self, lhs: Any, rhs: Any, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
    ) -> jax.Array:
        """The product of two unnamed arrays; the arguments are those of `jax.lax.dot_general`."""
        ...

    @staticmethod
    def default() -> DefaultDotGeneralOp:
        """`jax.lax.dot_general`, as an operation."""
        return DefaultDotGeneralOp()


class DefaultDotGeneralOp(eqx.Module):
    """`jax.lax.dot_general` as a module, so that no function is a leaf of a layer."""

    def __call__(
        self, lhs: Any, rhs: Any, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
    ) -> jax.Array:
        """See `DotGeneralOp`."""
        return lax.dot_general(lhs, rhs, dimension_numbers, precision, preferred_element_type)

    @staticmethod
    def init() -> DefaultDotGeneralOp:
        """The operation; it has no parameters."""
        return DefaultDotGeneralOp()


class _FunctionOp(eqx.Module):
    """A plain function as an operation: structure of the layer, not a leaf of it."""

    function: Callable[..., Any] = eqx.field(static=True)

    def __call__(
        self, lhs: Any, rhs: Any, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
    ) -> jax.Array:
        return self.function(
            lhs, rhs, dimension_numbers, precision=precision, preferred_element_type=preferred_element_type
        )


def as_operation(given: Any) -> Any:
    """The operation that a user gave: None is the default, and a plain function is wrapped.

    Anything that is not callable passes: transformations of trees put other things in the place of modules.
    """
    if given is None or given is lax.dot_general:
        return DefaultDotGeneralOp()
    return given if isinstance(given, eqx.Module) or not callable(given) else _FunctionOp(given)
