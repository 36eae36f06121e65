"""The types that annotations of this package are written in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload

import jax
from jax.lax import PrecisionLike as PrecisionLike
from jax.typing import ArrayLike
from jax.typing import DTypeLike as DTypeLike

from haliax.axis import Axis, AxisSelection, AxisSelector
from haliax.core.array import NamedArray

Scalar: TypeAlias = ArrayLike
"""A number, or an array without dimensions."""
IntScalar: TypeAlias = int | jax.Array
"""An integer, or an array of one."""
NamedOrNumeric: TypeAlias = NamedArray | ArrayLike
"""A NamedArray, a number, or a plain array."""
PRNGKey: TypeAlias = jax.Array
"""A random key, as `jax.random.key` makes it."""
if TYPE_CHECKING:
    Subscript: TypeAlias = (
        tuple[AxisSelector, Any, *tuple[Any, ...]] | Mapping[str, Any] | Mapping[Axis, Any] | Mapping[AxisSelector, Any]
    )
else:
    Subscript = Any  # when it runs anything is taken, to say what is wrong with it


class UnaryFunction(Protocol):
    """An elementwise function of one array: NamedArray to NamedArray, anything else as in `jnp`."""

    @overload
    def __call__(self, a: NamedArray, **options: Any) -> NamedArray: ...
    @overload
    def __call__(self, a: ArrayLike, **options: Any) -> jax.Array: ...


class BinaryFunction(Protocol):
    """An elementwise function of two arrays, which are broadcast by name."""

    @overload
    def __call__(self, a: NamedArray, b: NamedOrNumeric) -> NamedArray: ...
    @overload
    def __call__(self, a: ArrayLike, b: NamedArray) -> NamedArray: ...
    @overload
    def __call__(self, a: ArrayLike, b: ArrayLike) -> jax.Array: ...


class ReductionFunction(Protocol):
    """A reduction over the selected axes, or over all."""

    @overload
    def __call__(
        self,
        array: NamedArray,
        axis: AxisSelection | None = None,
        *,
        where: NamedOrNumeric | None = None,
        **options: Any,
    ) -> NamedArray: ...
    @overload
    def __call__(
        self, array: ArrayLike, axis: None = None, *, where: ArrayLike | None = None, **options: Any
    ) -> jax.Array: ...


class SimpleReductionFunction(Protocol):
    """A reduction over one axis, or over all elements, that takes no mask."""

    @overload
    def __call__(self, array: NamedArray, axis: AxisSelector | None = None) -> NamedArray: ...
    @overload
    def __call__(self, array: ArrayLike, axis: None = None) -> jax.Array: ...


class AxiswiseFunction(Protocol):
    """A function along one axis, which stays; without one it gives the unnamed flat array of `jnp`."""

    @overload
    def __call__(self, a: NamedArray, axis: AxisSelector, dtype: Any = None, **options: Any) -> NamedArray: ...
    @overload
    def __call__(self, a: NamedArray, axis: None, dtype: Any = None, **options: Any) -> jax.Array: ...


class PairFunction(Protocol):
    """An elementwise function of two arrays, which are broadcast by name, that gives a pair."""

    @overload
    def __call__(self, a: NamedArray, b: NamedOrNumeric) -> tuple[NamedArray, NamedArray]: ...
    @overload
    def __call__(self, a: ArrayLike, b: NamedArray) -> tuple[NamedArray, NamedArray]: ...
    @overload
    def __call__(self, a: ArrayLike, b: ArrayLike) -> tuple[jax.Array, jax.Array]: ...
