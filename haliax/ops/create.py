"""Creation of named arrays: constants, ranges, and copies of a shape."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from haliax import errors
from haliax.axis import Axis, AxisSelector, AxisSpec, axes_of, check_distinct, shape_of
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import made
from haliax.ops import eager


def full(shape: AxisSpec, fill_value: Any, dtype: Any = None) -> NamedArray:
    """An array of one value everywhere.

    Args:
        shape: the axes, with their sizes.
        fill_value: the number, or a NamedArray without axes.
        dtype: of the result; by default that of `fill_value`.

    Raises:
        AxisError: for an axis without a size, or one that is there twice.

    >>> hax.full({"batch": 2, "embed": 3}, 0.5)
    f32[batch=2, embed=3] [[0.5 0.5 0.5] [0.5 0.5 0.5]]
    """
    if isinstance(fill_value, NamedArray):
        fill_value = fill_value.scalar()
    return made(wrap(jnp.full(shape_of(shape), fill_value, dtype), axes_of(shape)))


def zeros(shape: AxisSpec, dtype: Any = None) -> NamedArray:
    """An array of zeros, `float32` unless said otherwise.

    Args:
        shape: the axes, with their sizes.
        dtype: of the result.

    Raises:
        AxisError: for an axis without a size, or one that is there twice.

    >>> hax.zeros(hax.Axis("embed", 3))
    f32[embed=3] [0. 0. 0.]
    """
    return made(wrap(jnp.zeros(shape_of(shape), dtype), axes_of(shape)))


def ones(shape: AxisSpec, dtype: Any = None) -> NamedArray:
    """An array of ones, `float32` unless said otherwise.

    Args:
        shape: the axes, with their sizes.
        dtype: of the result.

    Raises:
        AxisError: for an axis without a size, or one that is there twice.

    >>> hax.ones({"batch": 2, "embed": 3}, dtype=jnp.int32)
    i32[batch=2, embed=3] [[1 1 1] [1 1 1]]
    """
    return made(wrap(jnp.ones(shape_of(shape), dtype), axes_of(shape)))


def full_like(a: NamedArray, fill_value: Any, dtype: Any = None) -> NamedArray:
    """An array of one value with the axes of `a`, and its dtype unless said otherwise."""
    return full(a.axes, fill_value, a.dtype if dtype is None else dtype)


def zeros_like(a: NamedArray, dtype: Any = None) -> NamedArray:
    """Zeros with the axes of `a`, and its dtype unless said otherwise."""
    return zeros(a.axes, a.dtype if dtype is None else dtype)


def ones_like(a: NamedArray, dtype: Any = None) -> NamedArray:
    """Ones with the axes of `a`, and its dtype unless said otherwise."""
    return ones(a.axes, a.dtype if dtype is None else dtype)


def arange(axis: AxisSpec, *, start: Any = 0, step: Any = 1, dtype: Any = None) -> NamedArray:
    """`start`, `start + step`, … along the axis; along several axes they count on in row-major order.

    `start` and `step` may be traced.

    Args:
        axis: the axes of the result.
        start: the first number.
        step: from one number to the next.
        dtype: of the result.

    >>> hax.arange(hax.Axis("position", 4), start=2, step=3)
    i32[position=4] [ 2 5 8 11]
    >>> hax.arange(hax.make_axes(batch=2, embed=3))
    i32[batch=2, embed=3] [[0 1 2] [3 4 5]]
    """
    axes = axes_of(axis)
    count = int(np.prod([a.size for a in axes], dtype=np.int64))
    start, step = (x.scalar() if isinstance(x, NamedArray) else x for x in (start, step))
    numbers = jnp.arange(count)
    kind = jnp.result_type(start, step) if dtype is None else dtype
    if not (isinstance(step, int) and step == 1):
        numbers = numbers * step
    if not (isinstance(start, int) and start == 0):
        numbers = numbers + start
    if numbers.dtype != kind or numbers.weak_type:
        numbers = numbers.astype(kind)
    return made(wrap(numbers if len(axes) == 1 else numbers.reshape(shape_of(axes)), axes))


def _samples(axis: AxisSelector) -> Axis:
    """The axis of a range; of 50 numbers, as in numpy, if only its name is given."""
    return Axis(axis, 50) if isinstance(axis, str) else axis


def linspace(axis: AxisSelector, *, start: Any, stop: Any, endpoint: bool = True, dtype: Any = None) -> NamedArray:
    """Evenly spaced numbers from `start` to `stop`, one for each element of the axis.

    Args:
        axis: the axis of the result; a bare name for 50 numbers.
        start: the first number.
        stop: the last number, or the one after it if `endpoint` is False.
        endpoint: whether `stop` is the last number.
        dtype: of the result.

    >>> hax.linspace(hax.Axis("position", 5), start=0, stop=1)
    f32[position=5] [0. 0.25 0.5 0.75 1. ]
    """
    new = _samples(axis)
    return made(wrap(jnp.linspace(start, stop, new.size, endpoint=endpoint, dtype=dtype), (new,)))


def logspace(
    axis: AxisSelector, *, start: Any, stop: Any, endpoint: bool = True, base: float = 10.0, dtype: Any = None
) -> NamedArray:
    """`base` to the power of evenly spaced numbers from `start` to `stop`.

    Args:
        axis: the axis of the result.
        start: the exponent of the first number.
        stop: the exponent of the last number, or of the one after it if `endpoint` is False.
        endpoint: whether `stop` counts; None is True.
        base: of the powers.
        dtype: of the result.
    """
    new = _samples(axis)
    return made(wrap(jnp.logspace(start, stop, new.size, endpoint, base, dtype), (new,)))


def geomspace(axis: AxisSelector, *, start: Any, stop: Any, endpoint: bool = True, dtype: Any = None) -> NamedArray:
    """Numbers from `start` to `stop` of which each is a constant multiple of the one before.

    Args:
        axis: the axis of the result.
        start: the first number.
        stop: the last number, or the one after it if `endpoint` is False.
        endpoint: whether `stop` counts; None is True.
        dtype: of the result.
    """
    new = _samples(axis)
    return made(wrap(jnp.geomspace(start, stop, new.size, endpoint, dtype), (new,)))


def one_hot(x: NamedArray | int, class_axis: Axis, *, dtype: Any = None) -> NamedArray:
    """For each integer a vector along `class_axis`, last in the result, that is one there and zero elsewhere.

    Args:
        x: integers. In an array, one that is out of range, such as a negative one, gives zeros; a Python integer counts
            from the end if it is negative.
        class_axis: the axis of the classes.
        dtype: of the result; `float32` unless said otherwise.

    Raises:
        AxisError: if `x` has the axis already.
        ContradictionError: for a Python integer out of range.
        NamedTypeError: for an unnamed array with dimensions.

    >>> hax.nn.one_hot(hax.named([2, 0], "batch"), hax.Axis("classes", 3))
    f32[batch=2, classes=3] [[0. 0. 1.] [1. 0. 0.]]
    """
    dtype = jnp.float32 if dtype is None else dtype
    if not isinstance(x, NamedArray):
        if isinstance(x, int | np.integer):
            if not -class_axis.size <= x < class_axis.size:
                raise errors.class_out_of_range(int(x), class_axis)
            x = int(x) % class_axis.size
        elif getattr(x, "shape", ()):
            raise errors.not_named("one_hot", x)
        return wrap((jnp.arange(class_axis.size) == x).astype(dtype), (class_axis,))
    axes = (*x.axes, class_axis)
    check_distinct(axes)
    return wrap(_one_hot(x.array, class_axis.size, dtype), axes)


def _one_hot_of(labels: Any, classes: int, dtype: Any) -> Any:
    return (jnp.asarray(labels)[..., None] == jnp.arange(classes)).astype(dtype)


_one_hot = eager.quick(_one_hot_of, 1, 2)
