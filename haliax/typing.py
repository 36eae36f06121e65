"""The types that annotations of this package are written in."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import jax
from jax.lax import PrecisionLike as PrecisionLike
from jax.typing import ArrayLike
from jax.typing import DTypeLike as DTypeLike

from haliax.axis import AxisSelection, AxisSelector
from haliax.core.array import NamedArray

Scalar: TypeAlias = ArrayLike
"""A number, or an array without dimensions."""
IntScalar: TypeAlias = int | jax.Array
"""An integer, or an array of one."""
NamedOrNumeric: TypeAlias = NamedArray | ArrayLike
"""A NamedArray, a number, or a plain array."""
PRNGKey: TypeAlias = jax.Array
"""A random key, as `jax.random.key` makes it."""


class UnaryFunction(Protocol):
    """An elementwise function of one array: NamedArray to NamedArray, anything else as in `jnp`."""

    def __call__(self, a: Any) -> Any: ...


class BinaryFunction(Protocol):
    """An elementwise function of two arrays, which are broadcast by name."""

    def __call__(self, a: Any, b: Any) -> Any: ...


class ReductionFunction(Protocol):
    """A reduction over the selected axes, or over all."""

    def __call__(
        self, array: Any, axis: AxisSelection | None = None, *, where: NamedOrNumeric | None = None, **options: Any
    ) -> Any: ...


class SimpleReductionFunction(Protocol):
    """A reduction over one axis, or over all elements, that takes no mask."""

    def __call__(self, array: Any, axis: AxisSelector | None = None) -> Any: ...
