"""Creation of named arrays: constants, ranges, and copies of a shape."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from haliax.array import NamedArray, wrap
from haliax.axis import Axis, AxisSpec, axes_of, check_distinct, to_jax_shape


def full(shape: AxisSpec, fill_value: Any, dtype: Any = None) -> NamedArray:
    """An array of one value everywhere."""
    if isinstance(fill_value, NamedArray):
        fill_value = fill_value.scalar()
    return wrap(jnp.full(to_jax_shape(shape), fill_value, dtype), axes_of(shape))


def zeros(shape: AxisSpec, dtype: Any = None) -> NamedArray:
    """An array of zeros, `float32` unless said otherwise."""
    return wrap(jnp.zeros(to_jax_shape(shape), dtype), axes_of(shape))


def ones(shape: AxisSpec, dtype: Any = None) -> NamedArray:
    """An array of ones, `float32` unless said otherwise."""
    return wrap(jnp.ones(to_jax_shape(shape), dtype), axes_of(shape))


def full_like(array: NamedArray, fill_value: Any, dtype: Any = None) -> NamedArray:
    """An array of one value with the axes of `array`, and its dtype unless said otherwise."""
    return full(array.axes, fill_value, array.dtype if dtype is None else dtype)


def zeros_like(array: NamedArray, dtype: Any = None) -> NamedArray:
    """Zeros with the axes of `array`, and its dtype unless said otherwise."""
    return zeros(array.axes, array.dtype if dtype is None else dtype)


def ones_like(array: NamedArray, dtype: Any = None) -> NamedArray:
    """Ones with the axes of `array`, and its dtype unless said otherwise."""
    return ones(array.axes, array.dtype if dtype is None else dtype)


def arange(axis: AxisSpec, *, start: Any = 0, step: Any = 1, dtype: Any = None) -> NamedArray:
    """`start`, `start + step`, … along the axis; along several axes they count on in row-major order.

    `start` and `step` may be traced.
    """
    axes = axes_of(axis)
    count = int(np.prod([a.size for a in axes], dtype=np.int64))
    start, step = (x.scalar() if isinstance(x, NamedArray) else x for x in (start, step))
    numbers = jnp.arange(count)
    if not (isinstance(step, int) and step == 1):
        numbers = numbers * step
    if not (isinstance(start, int) and start == 0):
        numbers = numbers + start
    if dtype is not None:
        numbers = numbers.astype(dtype)
    return wrap(numbers if len(axes) == 1 else numbers.reshape(to_jax_shape(axes)), axes)


def linspace(axis: Axis, *, start: Any, stop: Any, endpoint: bool | None = None, dtype: Any = None) -> NamedArray:
    """Evenly spaced numbers from `start` to `stop`, one for each element of the axis.

    Args:
        axis: the axis of the result.
        start: the first number.
        stop: the last number, or the one after it if `endpoint` is False.
        endpoint: whether `stop` is the last number; None is True.
        dtype: of the result.
    """
    return wrap(jnp.linspace(start, stop, axis.size, endpoint=endpoint is not False, dtype=dtype), (axis,))


def logspace(
    axis: Axis, *, start: Any, stop: Any, endpoint: bool | None = None, base: float = 10.0, dtype: Any = None
) -> NamedArray:
    """`base` to the power of evenly spaced numbers from `start` to `stop`."""
    return wrap(jnp.logspace(start, stop, axis.size, endpoint is not False, base, dtype), (axis,))


def geomspace(axis: Axis, *, start: Any, stop: Any, endpoint: bool | None = None, dtype: Any = None) -> NamedArray:
    """Numbers from `start` to `stop` of which each is a constant multiple of the one before."""
    return wrap(jnp.geomspace(start, stop, axis.size, endpoint is not False, dtype), (axis,))


def one_hot(indices: NamedArray | int, axis: Axis, dtype: Any = None) -> NamedArray:
    """For each index a vector along `axis`, last in the result, that is one there and zero elsewhere.

    An index out of range gives zeros.

    Raises:
        AxisError: if `indices` has the axis already.
    """
    dtype = jnp.float32 if dtype is None else dtype
    if not isinstance(indices, NamedArray):
        return wrap((jnp.arange(axis.size) == indices).astype(dtype), (axis,))
    axes = (*indices.axes, axis)
    check_distinct(axes)
    hot = jnp.asarray(indices.array)[..., None] == jnp.arange(axis.size, dtype=indices.dtype)
    return wrap(hot.astype(dtype), axes)
