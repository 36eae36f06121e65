"""Random named arrays: the distributions of `jax.random`, with axes for a shape.

Parameters may be NamedArrays; they are broadcast by name to the shape.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import random as raw

from haliax import errors
from haliax.axis import Axis, AxisSelector, AxisSpec, axes_of, check_distinct, find, shape_of
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import made, on_any_mesh
from haliax.ops.align import broadcast_axis, broadcast_to
from haliax.typing import NamedOrNumeric


def normal(key: jax.Array, shape: AxisSpec, dtype: Any = float) -> NamedArray:
    """Standard normal numbers.

    Args:
        key: a random key.
        shape: the axes, with their sizes.
        dtype: of the result.

    >>> hax.random.normal(jax.random.key(0), {"batch": 2, "embed": 3}).shape
    {'batch': 2, 'embed': 3}
    """
    return made(wrap(raw.normal(key, shape_of(shape), dtype), axes_of(shape)))


def uniform(
    key: jax.Array, shape: AxisSpec, dtype: Any = float, minval: NamedOrNumeric = 0.0, maxval: NamedOrNumeric = 1.0
) -> NamedArray:
    """Numbers that are uniform in [minval, maxval).

    Args:
        key: a random key.
        shape: the axes, with their sizes.
        dtype: of the result.
        minval: the smallest number; broadcast by name.
        maxval: what all numbers are below; broadcast by name.

    Raises:
        AxisError: for a parameter with an axis that `shape` lacks.

    >>> low = hax.named([0.0, 10.0], "batch")
    >>> x = hax.random.uniform(jax.random.key(0), {"batch": 2, "embed": 3}, minval=low, maxval=low + 1)
    >>> x.astype(int)
    i32[batch=2, embed=3] [[ 0 0 0] [10 10 10]]
    """
    low, high = _parameter(minval, shape), _parameter(maxval, shape)
    return made(wrap(raw.uniform(key, shape_of(shape), dtype, low, high), axes_of(shape)))


def truncated_normal(
    key: jax.Array, shape: AxisSpec, lower: NamedOrNumeric, upper: NamedOrNumeric, dtype: Any = float
) -> NamedArray:
    """Standard normal numbers, given that they are in (lower, upper).

    Args:
        key: a random key.
        shape: the axes, with their sizes.
        lower: what all numbers are above; broadcast by name.
        upper: what all numbers are below; broadcast by name.
        dtype: of the result.

    Raises:
        AxisError: for a parameter with an axis that `shape` lacks.
    """
    low, high = _parameter(lower, shape), _parameter(upper, shape)
    return made(wrap(raw.truncated_normal(key, low, high, shape_of(shape), dtype), axes_of(shape)))


def randint(
    key: jax.Array, shape: AxisSpec, minval: NamedOrNumeric, maxval: NamedOrNumeric, dtype: Any = int
) -> NamedArray:
    """Integers that are uniform in [minval, maxval).

    Args:
        key: a random key.
        shape: the axes, with their sizes.
        minval: the smallest integer; broadcast by name.
        maxval: what all integers are below; broadcast by name.
        dtype: of the result.

    Raises:
        AxisError: for a parameter with an axis that `shape` lacks.
    """
    low, high = _parameter(minval, shape), _parameter(maxval, shape)
    return made(wrap(raw.randint(key, shape_of(shape), low, high, dtype), axes_of(shape)))


def bernoulli(key: jax.Array, shape: AxisSpec, p: NamedOrNumeric = 0.5) -> NamedArray:
    """Booleans that are True with probability `p`.

    Args:
        key: a random key.
        shape: the axes, with their sizes.
        p: the probability of True; broadcast by name.

    Raises:
        AxisError: for a parameter with an axis that `shape` lacks.
    """
    return made(wrap(raw.bernoulli(key, _parameter(p, shape), shape_of(shape)), axes_of(shape)))


def _parameter(parameter: NamedOrNumeric, shape: AxisSpec) -> Any:
    return broadcast_to(parameter, shape).array if isinstance(parameter, NamedArray) else parameter


def _with_parameters(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """`function(key, *parameters, shape, dtype)` of `jax.random`, with the shape second and given as axes."""

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    given = [inspect.Parameter(name, kind) for name in ("key", "shape", *names)]
    signature = inspect.Signature([*given, inspect.Parameter("dtype", kind, default=float)])

    def draw(*args: Any, **kwargs: Any) -> NamedArray:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            raise errors.wrong_parameters(function.__name__, names) from None
        bound.apply_defaults()
        key, shape, *parameters, dtype = bound.args
        raw_parameters = [_parameter(parameter, shape) for parameter in parameters]
        return made(wrap(function(key, *raw_parameters, shape=shape_of(shape), dtype=dtype), axes_of(shape)))

    draw.__name__ = draw.__qualname__ = function.__name__
    draw.__signature__ = signature  # type: ignore[attr-defined]
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
    """Poisson numbers with rate `lam`.

    Args:
        key: a random key.
        shape: the axes, with their sizes.
        lam: the rate; broadcast by name.
        dtype: of the result.

    Raises:
        AxisError: for a parameter with an axis that `shape` lacks.
    """
    return made(wrap(raw.poisson(key, _parameter(lam, shape), shape_of(shape), dtype), axes_of(shape)))


def rademacher(key: jax.Array, shape: AxisSpec, dtype: Any = float) -> NamedArray:
    """-1 or 1, with equal probability.

    Args:
        key: a random key.
        shape: the axes, with their sizes.
        dtype: of the result.
    """
    return made(wrap(raw.rademacher(key, shape_of(shape), dtype), axes_of(shape)))


def ball(key: jax.Array, shape: AxisSpec, D: Axis, p: float = 2.0, dtype: Any = float) -> NamedArray:
    """Points of the unit ball of the p-norm; the coordinates are along `D`, last in the result.

    Args:
        key: a random key.
        shape: the axes, with their sizes.
        D: the axis of the coordinates.
        p: of the norm.
        dtype: of the result.
    """
    axes = (*axes_of(shape), D)
    return made(wrap(raw.ball(key, D.size, p, shape_of(shape), dtype), axes))


@on_any_mesh
def categorical(key: jax.Array, logits: NamedArray, axis: AxisSelector, shape: AxisSpec | None = None) -> NamedArray:
    """Positions along `axis`, drawn with the probabilities that the logits give.

    Args:
        key: a random key.
        logits: unnormalized log probabilities.
        axis: the axis of `logits` to draw from.
        shape: the axes of the result, with all other axes of `logits`; these are the default.

    Raises:
        AxisError: if `logits` lacks the axis.

    >>> logits = hax.named([-jnp.inf, 0.0, -jnp.inf], "vocab")
    >>> hax.random.categorical(jax.random.key(0), logits, "vocab", {"draw": 4})
    i32[draw=4] [1 1 1 1]
    """
    position = find(logits.axes, axis, logits)
    batch = logits.axes[:position] + logits.axes[position + 1 :]
    if shape is None:
        return wrap(raw.categorical(key, logits.array, position), batch)
    axes = axes_of(shape)
    broadcast_to(logits, (*axes, logits.axes[position]))  # raises if `logits` has further axes
    spread = broadcast_axis(logits, axes)
    return wrap(raw.categorical(key, spread.array, spread.axes.index(logits.axes[position]), shape_of(axes)), axes)


@on_any_mesh
def permutation(key: jax.Array, x: NamedArray, axis: AxisSelector, independent: bool = False) -> NamedArray:
    """The array with its elements along the axis in a random order.

    Args:
        key: a random key.
        x: a NamedArray.
        axis: the axis to shuffle along.
        independent: whether each row is shuffled by itself.

    Raises:
        AxisError: if the array lacks the axis.
    """
    position = find(x.axes, axis, x)
    return wrap(raw.permutation(key, x.array, position, independent=independent), x.axes)


@on_any_mesh
def choice(
    key: jax.Array,
    shape: AxisSpec,
    a: NamedArray,
    axis: AxisSelector,
    replace: bool = True,
    p: NamedArray | None = None,
) -> NamedArray:
    """Elements of `a` along `axis`, drawn with replacement or without; `shape` stands in front of its other axes.

    Args:
        key: a random key.
        shape: the axes to draw.
        a: what to draw from.
        axis: the axis of `a` to draw along.
        replace: whether an element may come twice.
        p: the probability of each element, with the axis `axis`.

    Raises:
        AxisError: if `a` lacks the axis, or has another one of `shape`.
    """
    position = find(a.axes, axis, a)
    rest = a.axes[:position] + a.axes[position + 1 :]
    probabilities = None if p is None else broadcast_to(p, a.axes[position]).array
    new = axes_of(shape)
    check_distinct(new + rest)
    moved = jnp.moveaxis(jnp.asarray(a.array), position, 0)
    return wrap(raw.choice(key, moved, shape_of(new), replace, probabilities), new + rest)


def generate_sharded(fn: Callable[..., Any], axis: AxisSelector | None = None) -> Callable[..., Any]:
    """The function as it is: random numbers do not depend on how they are sharded.

    Args:
        fn: a function of this module.
        axis: the axis to generate the numbers along; of no effect.
    """
    return fn
