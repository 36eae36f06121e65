"""Random named arrays: the distributions of `jax.random`, with axes for a shape.

Parameters may be NamedArrays; they are broadcast by name to the shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import random as raw

from haliax import errors
from haliax.align import broadcast_to
from haliax.array import NamedArray, wrap
from haliax.axis import Axis, AxisSelector, AxisSpec, axes_of, find, to_jax_shape
from haliax.shape import transposed
from haliax.typing import NamedOrNumeric


def normal(key: jax.Array, shape: AxisSpec, dtype: Any = float) -> NamedArray:
    """Standard normal numbers."""
    return wrap(raw.normal(key, to_jax_shape(shape), dtype), axes_of(shape))


def uniform(
    key: jax.Array, shape: AxisSpec, dtype: Any = float, minval: NamedOrNumeric = 0.0, maxval: NamedOrNumeric = 1.0
) -> NamedArray:
    """Numbers that are uniform in [minval, maxval)."""
    low, high = _parameter(minval, shape), _parameter(maxval, shape)
    return wrap(raw.uniform(key, to_jax_shape(shape), dtype, low, high), axes_of(shape))


def truncated_normal(
    key: jax.Array, shape: AxisSpec, lower: NamedOrNumeric, upper: NamedOrNumeric, dtype: Any = float
) -> NamedArray:
    """Standard normal numbers, given that they are in (lower, upper)."""
    low, high = _parameter(lower, shape), _parameter(upper, shape)
    return wrap(raw.truncated_normal(key, low, high, to_jax_shape(shape), dtype), axes_of(shape))


def randint(
    key: jax.Array, shape: AxisSpec, minval: NamedOrNumeric, maxval: NamedOrNumeric, dtype: Any = int
) -> NamedArray:
    """Integers that are uniform in [minval, maxval)."""
    low, high = _parameter(minval, shape), _parameter(maxval, shape)
    return wrap(raw.randint(key, to_jax_shape(shape), low, high, dtype), axes_of(shape))


def bernoulli(key: jax.Array, shape: AxisSpec, p: NamedOrNumeric = 0.5) -> NamedArray:
    """Booleans that are True with probability `p`."""
    return wrap(raw.bernoulli(key, _parameter(p, shape), to_jax_shape(shape)), axes_of(shape))


def _parameter(parameter: NamedOrNumeric, shape: AxisSpec) -> Any:
    return broadcast_to(parameter, shape).array if isinstance(parameter, NamedArray) else parameter


def _with_parameters(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """`function(key, *parameters, shape, dtype)` of `jax.random`, with the shape second and given as axes."""

    def draw(key: jax.Array, shape: AxisSpec, *parameters: Any, dtype: Any = float, **more: Any) -> NamedArray:
        given = [*parameters, *[more.pop(name) for name in names[len(parameters) :] if name in more]]
        if more or len(given) != len(names):
            raise errors.wrong_parameters(function.__name__, names)
        raw_parameters = [_parameter(parameter, shape) for parameter in given]
        return wrap(function(key, *raw_parameters, shape=to_jax_shape(shape), dtype=dtype), axes_of(shape))

    draw.__name__ = draw.__qualname__ = function.__name__
    draw.__doc__ = f"`jax.random.{function.__name__}`: `(key, shape, {', '.join([*names, 'dtype'])})`."
    return draw


beta = _with_parameters(raw.beta, "a", "b")
cauchy = _with_parameters(raw.cauchy)
exponential = _with_parameters(raw.exponential)
gamma = _with_parameters(raw.gamma, "a")
gumbel = _with_parameters(raw.gumbel)
laplace = _with_parameters(raw.laplace)
loggamma = _with_parameters(raw.loggamma, "a")
logistic = _with_parameters(raw.logistic)
pareto = _with_parameters(raw.pareto, "b")
t = _with_parameters(raw.t, "df")
weibull_min = _with_parameters(raw.weibull_min, "scale", "concentration")


def poisson(key: jax.Array, shape: AxisSpec, lam: NamedOrNumeric, dtype: Any = int) -> NamedArray:
    """Poisson numbers with rate `lam`."""
    return wrap(raw.poisson(key, _parameter(lam, shape), to_jax_shape(shape), dtype), axes_of(shape))


def rademacher(key: jax.Array, shape: AxisSpec, dtype: Any = float) -> NamedArray:
    """-1 or 1, with equal probability."""
    return wrap(raw.rademacher(key, to_jax_shape(shape), dtype), axes_of(shape))


def ball(key: jax.Array, shape: AxisSpec, D: Axis, p: float = 2.0, dtype: Any = float) -> NamedArray:
    """Points of the unit ball of the p-norm; the coordinates are along `D`, last in the result."""
    axes = (*axes_of(shape), D)
    return wrap(raw.ball(key, D.size, p, to_jax_shape(shape), dtype), axes)


def categorical(key: jax.Array, logits: NamedArray, axis: AxisSelector, shape: AxisSpec | None = None) -> NamedArray:
    """Positions along `axis`, drawn with the probabilities that the logits give.

    Args:
        key: a random key.
        logits: unnormalized log probabilities.
        axis: the axis of `logits` to draw from.
        shape: the axes of the result, with all other axes of `logits`; these are the default.

    Raises:
        AxisError: if `logits` lacks the axis.
    """
    position = find(logits.axes, axis, logits)
    batch = logits.axes[:position] + logits.axes[position + 1 :]
    axes = batch if shape is None else axes_of(shape)
    extra = tuple(a for a in axes if a not in batch)
    drawn = raw.categorical(key, logits.array, position, to_jax_shape(extra + batch))
    return transposed(wrap(drawn, extra + batch), axes)


def permutation(key: jax.Array, x: NamedArray, axis: AxisSelector, independent: bool = False) -> NamedArray:
    """The array with its elements along the axis in a random order."""
    position = find(x.axes, axis, x)
    return wrap(raw.permutation(key, x.array, position, independent=independent), x.axes)


def choice(
    key: jax.Array,
    shape: AxisSpec,
    a: NamedArray,
    axis: AxisSelector,
    replace: bool = True,
    p: NamedArray | None = None,
) -> NamedArray:
    """Elements of `a` along `axis`, drawn with replacement or without; `shape` stands in front of its other axes.

    Raises:
        AxisError: if `a` lacks the axis.
    """
    position = find(a.axes, axis, a)
    rest = a.axes[:position] + a.axes[position + 1 :]
    probabilities = None if p is None else broadcast_to(p, a.axes[position]).array
    new = axes_of(shape)
    moved = jnp.moveaxis(jnp.asarray(a.array), position, 0)
    return wrap(raw.choice(key, moved, to_jax_shape(new), replace, probabilities), new + rest)
