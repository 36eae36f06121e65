"""The types that annotations of this package are written in."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import jax
from jax.typing import ArrayLike

from haliax.array import NamedArray
from haliax.axis import AxisSelection, AxisSelector

Scalar: TypeAlias = ArrayLike
NamedOrNumeric: TypeAlias = NamedArray | ArrayLike
PRNGKey: TypeAlias = jax.Array


class UnaryFunction(Protocol):
    """An elementwise function of one array: NamedArray to NamedArray, anything else as in `jnp`."""

    def __call__(self, array: Any) -> Any: ...


class BinaryFunction(Protocol):
    """An elementwise function of two arrays, which are broadcast by name."""

    def __call__(self, first: Any, second: Any) -> Any: ...


class ReductionFunction(Protocol):
    """A reduction over the selected axes, or over all."""

    def __call__(
        self, array: Any, axis: AxisSelection | None = None, *, where: NamedOrNumeric | None = None, **options: Any
    ) -> Any: ...


class SimpleReductionFunction(Protocol):
    """A reduction over one axis, or over all elements, that takes no mask."""

    def __call__(self, array: Any, axis: AxisSelector | None = None) -> Any: ...
