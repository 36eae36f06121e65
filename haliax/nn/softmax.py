"""Functions that normalize along axes: softmax and its logarithm, logsumexp, standardization.

Given an unnamed array, the first three take the numbers of its dimensions, as in `jax.nn`; all of them for None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import jax.nn
import jax.numpy as jnp
from jax.typing import ArrayLike

from haliax.axis import AxisSelection
from haliax.core.array import NamedArray, held, hold, unchecked
from haliax.core.explicit import on_any_mesh
from haliax.ops.align import aligned
from haliax.ops.reduce import positions
from haliax.typing import NamedOrNumeric

Dimensions = AxisSelection | int | Sequence[int] | None
"""Axes of a NamedArray by name, or dimensions of a plain array by number; None for all."""


@overload
def softmax(a: NamedArray, axis: Dimensions = None) -> NamedArray: ...


@overload
def softmax(a: ArrayLike, axis: Dimensions = None) -> jax.Array: ...


def softmax(a: NamedOrNumeric, axis: Dimensions = None) -> Any:
    """Exponentials, divided by their sum over the axes (all axes for None).

    Args:
        a: a NamedArray (or a plain array).
        axis: the axes to normalize over; None for all.

    Raises:
        AxisError: for an axis that the array lacks.

    >>> hax.nn.softmax(hax.zeros({"batch": 1, "embed": 4}), "embed")
    f32[batch=1, embed=4] [[0.25 0.25 0.25 0.25]]
    """
    return _along(jax.nn.softmax, a, axis)


@overload
def log_softmax(a: NamedArray, axis: Dimensions = None) -> NamedArray: ...


@overload
def log_softmax(a: ArrayLike, axis: Dimensions = None) -> jax.Array: ...


def log_softmax(a: NamedOrNumeric, axis: Dimensions = None) -> Any:
    """The logarithm of `softmax`, computed without overflow.

    Args:
        a: a NamedArray (or a plain array).
        axis: the axes to normalize over; None for all.

    Raises:
        AxisError: for an axis that the array lacks.
    """
    return _along(jax.nn.log_softmax, a, axis)


@on_any_mesh
def _along(function: Callable[..., Any], a: Any, axis: Any) -> Any:
    if not isinstance(a, NamedArray):
        return function(jnp.asarray(a), axis=axis)
    own = held(a)
    return hold(unchecked(function(own.array, axis=positions(own, axis)), own.axes), a.axes)


@overload
def logsumexp(a: NamedArray, axis: Dimensions = None) -> NamedArray: ...


@overload
def logsumexp(a: ArrayLike, axis: Dimensions = None) -> jax.Array: ...


@on_any_mesh
def logsumexp(a: NamedOrNumeric, axis: Dimensions = None) -> Any:
    """The logarithm of the sum of exponentials over the axes, computed without overflow; the axes go away.

    Args:
        a: a NamedArray (or a plain array).
        axis: the axes that go away; None for all.

    Raises:
        AxisError: for an axis that the array lacks.
    """
    chosen: Any = axis
    if not isinstance(a, NamedArray):
        return jax.nn.logsumexp(jnp.asarray(a), axis=chosen)
    own = held(a)
    gone = positions(own, chosen)
    kept = tuple(axis for position, axis in enumerate(own.axes) if position not in gone)
    return hold(unchecked(jax.nn.logsumexp(own.array, axis=gone), kept), tuple(axis for axis in a.axes if axis in kept))


@on_any_mesh
def standardize(
    x: NamedArray,
    axis: AxisSelection | None = None,
    *,
    mean: NamedOrNumeric | None = None,
    variance: NamedOrNumeric | None = None,
    epsilon: float = 1e-5,
    where: NamedArray | None = None,
) -> NamedArray:
    """The array shifted and scaled to mean 0 and variance 1 over the axes.

    Args:
        x: a NamedArray.
        axis: the axes to compute the mean and the variance over; all for None.
        mean: used instead of the computed mean.
        variance: used instead of the computed variance.
        epsilon: added to the variance.
        where: which elements count for the mean and the variance.

    Raises:
        AxisError: for an axis that the array lacks.
    """
    order = x.axes
    x = held(x)
    options: dict[str, Any] = {} if where is None else {"where": aligned(where, x.axes)}
    over = positions(x, axis)
    center = jnp.mean(x.array, axis=over, keepdims=True, **options) if mean is None else _beside(mean, x)
    shifted = x.array - center
    if variance is None:
        spread = jnp.mean(jnp.square(shifted), axis=over, keepdims=True, **options)
    else:
        spread = _beside(variance, x)
    return hold(unchecked(shifted * jax.lax.rsqrt(spread + epsilon), x.axes), order)


def _beside(value: NamedOrNumeric, x: NamedArray) -> Any:
    return aligned(value, x.axes) if isinstance(value, NamedArray) else jnp.asarray(value, x.dtype)
