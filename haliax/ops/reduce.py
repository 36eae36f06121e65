"""Reductions: the selected axes go away.

Each calls the `jnp` reduction with the numbers of the axes. A `where` mask may have fewer axes than the array and any
order; it is lined up by name and not broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from haliax import errors
from haliax.axis import Axis, AxisSelection, AxisSelector, ensure_tuple, find
from haliax.core.array import NamedArray, held, hold, unchecked, wrap
from haliax.core.explicit import SHARDING_ERRORS, on_any_mesh, retried
from haliax.ops.align import aligned, require_beside, require_boolean
from haliax.typing import NamedOrNumeric, ReductionFunction, SimpleReductionFunction


def positions(array: NamedArray, axis: AxisSelection | None) -> tuple[int, ...]:
    """The numbers of the selected axes; of all for None.

    Raises:
        AxisError: for an axis that the array lacks.
    """
    if axis is None:
        return tuple(range(len(array.axes)))
    if isinstance(axis, str | Axis):
        return (find(array.axes, axis, array),)
    return tuple(dict.fromkeys(find(array.axes, selector, array) for selector in ensure_tuple(axis)))


def _parted(array: NamedArray, axis: AxisSelection | None) -> tuple[int | tuple[int, ...] | None, tuple[Axis, ...]]:
    """The number or numbers of the selected axes, None for all; and the other axes."""
    axes = array.axes
    if axis is None:
        return None, ()
    if isinstance(axis, str | Axis):
        gone = find(axes, axis, array)
        return gone, axes[:gone] + axes[gone + 1 :]
    several = positions(array, axis)
    return several, tuple([a for position, a in enumerate(axes) if position not in several])


def reduction(function: Callable[..., Any]) -> ReductionFunction:
    """The reduction `function`, for named arrays."""
    name = function.__name__

    def reduce(
        array: Any, axis: AxisSelection | None = None, *, where: NamedOrNumeric | None = None, **options: Any
    ) -> Any:
        if not isinstance(array, NamedArray):
            if axis is not None:
                raise errors.axis_of_unnamed(name, array)
            return function(array, **options) if where is None else function(array, where=where, **options)
        own = held(array)
        if "keepdims" in options:
            raise errors.no_keepdims(name, array)
        if where is not None:
            require_beside(name, "where", where, "the array", array)
            require_boolean(name, where)
            options["where"] = aligned(where, own.axes) if isinstance(where, NamedArray) else where
        gone, kept = _parted(own, axis)
        try:
            result = unchecked(function(own.array, axis=gone, **options), kept)
        except SHARDING_ERRORS as error:
            return retried(error, reduce, array, axis, **{**options, "where": where})
        return result if own is array else hold(result, _parted(array, axis)[1])

    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = f"""`jnp.{name}` over the selected axes, or over all.

    Args:
        array: a NamedArray (or an unnamed array, over all its elements).
        axis: the axes that go away; None for all.
        where: which elements count, boolean; lined up by name.
        options: passed on to the function of `jnp`.

    Raises:
        AxisError: for an axis that the array lacks, or a `where` that does not fit it.
        NamedTypeError: for a `where` that is not boolean.

    >>> x = hax.arange(hax.make_axes(batch=2, embed=3))
    >>> hax.{name}(x, "embed").axes
    (Axis(name='batch', size=2),)
    """
    return reduce  # type: ignore[return-value]


def position_reduction(function: Callable[..., Any]) -> SimpleReductionFunction:
    """The reduction `function`, which gives a position along one axis, for named arrays."""
    name = function.__name__

    @on_any_mesh
    def reduce(array: Any, axis: AxisSelector | None = None) -> Any:
        if not isinstance(array, NamedArray):
            if axis is not None:
                raise errors.axis_of_unnamed(name, array)
            return function(array)
        held(array)  # an error if its axes are stale
        if axis is None:
            return wrap(function(array.array), ())
        gone = find(array.axes, axis, array)
        return wrap(function(array.array, axis=gone), array.axes[:gone] + array.axes[gone + 1 :])

    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = f"""`jnp.{name}` along one axis, or over all elements (then a position in the flat array).

    Args:
        array: a NamedArray (or an unnamed array, over all its elements).
        axis: the axis that goes away; None for all.

    Raises:
        AxisError: for an axis that the array lacks.

    >>> x = hax.arange(hax.make_axes(batch=2, embed=3))
    >>> hax.{name}(x, "embed").axes
    (Axis(name='batch', size=2),)
    """
    return reduce  # type: ignore[return-value]


all = reduction(jnp.all)
any = sometrue = reduction(jnp.any)
max = amax = reduction(jnp.max)
mean = reduction(jnp.mean)
min = amin = reduction(jnp.min)
prod = product = reduction(jnp.prod)
ptp = reduction(jnp.ptp)
std = reduction(jnp.std)
sum = reduction(jnp.sum)
_var = reduction(jnp.var)
nanmax = reduction(jnp.nanmax)
nanmean = reduction(jnp.nanmean)
nanmin = reduction(jnp.nanmin)
nanprod = reduction(jnp.nanprod)
nanstd = reduction(jnp.nanstd)
nansum = reduction(jnp.nansum)
nanvar = reduction(jnp.nanvar)


@overload
def var(
    array: NamedArray,
    axis: AxisSelection | None = None,
    dtype: Any = None,
    ddof: int = 0,
    *,
    where: NamedOrNumeric | None = None,
) -> NamedArray: ...


@overload
def var(
    array: ArrayLike,
    axis: AxisSelection | None = None,
    dtype: Any = None,
    ddof: int = 0,
    *,
    where: NamedOrNumeric | None = None,
) -> jax.Array: ...


def var(
    array: Any,
    axis: AxisSelection | None = None,
    dtype: Any = None,
    ddof: int = 0,
    *,
    where: NamedOrNumeric | None = None,
) -> Any:
    """The variance over the selected axes, or over all.

    Args:
        array: a NamedArray (or an unnamed array, over all its elements).
        axis: the axes that go away; None for all.
        dtype: of the result.
        ddof: what is subtracted from the number of elements, by which the sum of squares is divided.
        where: which elements count; lined up by name.

    Raises:
        AxisError: for an axis that the array lacks.
    """
    return _var(array, axis, where=where, dtype=dtype, ddof=ddof)


argmax = position_reduction(jnp.argmax)
argmin = position_reduction(jnp.argmin)
nanargmax = position_reduction(jnp.nanargmax)
nanargmin = position_reduction(jnp.nanargmin)


@on_any_mesh
def trace(array: NamedArray, axis1: AxisSelector, axis2: AxisSelector, offset: int = 0, dtype: Any = None) -> Any:
    """The sum of the diagonal over two axes, which go away.

    Args:
        array: a NamedArray.
        axis1: one axis of the diagonal.
        axis2: the other.
        offset: the diagonal; positive ones lie above the main one.
        dtype: to sum in.

    Raises:
        AxisError: for an axis that the array lacks.

    >>> x = hax.arange(hax.make_axes(row=3, column=3))
    >>> hax.trace(x, "row", "column")
    i32[] 12
    """
    first, second = find(array.axes, axis1, array), find(array.axes, axis2, array)
    kept = tuple(axis for position, axis in enumerate(array.axes) if position not in (first, second))
    return wrap(jnp.trace(array.array, offset=offset, axis1=first, axis2=second, dtype=dtype), kept)
