"""Functions that normalize along axes: softmax and its logarithm, logsumexp, standardization."""

from __future__ import annotations

from typing import Any

import jax.nn
import jax.numpy as jnp

from haliax.align import aligned
from haliax.array import NamedArray, wrap
from haliax.axis import AxisSelection
from haliax.reduce import positions


def softmax(array: NamedArray, axis: AxisSelection | None = None) -> NamedArray:
    """Exponentials, divided by their sum over the axes (all axes for None).

    Raises:
        AxisError: for an axis that the array lacks.
    """
    return wrap(jax.nn.softmax(array.array, axis=positions(array, axis)), array.axes)


def log_softmax(array: NamedArray, axis: AxisSelection | None = None) -> NamedArray:
    """The logarithm of `softmax`, computed without overflow.

    Raises:
        AxisError: for an axis that the array lacks.
    """
    return wrap(jax.nn.log_softmax(array.array, axis=positions(array, axis)), array.axes)


def logsumexp(array: NamedArray, axis: AxisSelection | None = None) -> NamedArray:
    """The logarithm of the sum of exponentials over the axes, computed without overflow; the axes go away.

    Raises:
        AxisError: for an axis that the array lacks.
    """
    gone = positions(array, axis)
    kept = tuple(a for position, a in enumerate(array.axes) if position not in gone)
    return wrap(jax.nn.logsumexp(array.array, axis=gone), kept)


def standardize(
    array: NamedArray,
    axis: AxisSelection | None = None,
    *,
    mean: NamedArray | None = None,
    variance: NamedArray | None = None,
    epsilon: float = 1e-5,
    where: NamedArray | None = None,
) -> NamedArray:
    """The array shifted and scaled to mean 0 and variance 1 over the axes.

    Args:
        array: a NamedArray.
        axis: the axes to compute the mean and the variance over.
        mean: used instead of the computed mean.
        variance: used instead of the computed variance.
        epsilon: added to the variance.
        where: which elements count for the mean and the variance.
    """
    options: dict[str, Any] = {} if where is None else {"where": aligned(where, array.axes)}
    over = positions(array, axis)
    center = jnp.mean(array.array, axis=over, keepdims=True, **options) if mean is None else aligned(mean, array.axes)
    shifted = array.array - center
    if variance is None:
        spread = jnp.mean(jnp.square(shifted), axis=over, keepdims=True, **options)
    else:
        spread = aligned(variance, array.axes)
    return wrap(shifted * jax.lax.rsqrt(spread + epsilon), array.axes)
