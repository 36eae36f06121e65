"""Functions along one axis that keep it: cumulative sums and products, sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from haliax import errors
from haliax.array import NamedArray, wrap
from haliax.axis import Axis, AxisSelector, find


def axiswise(function: Callable[..., Any]) -> Callable[..., NamedArray]:
    """The `function` along one axis, for named arrays. Options are passed on by keyword."""
    name = function.__name__

    def along(array: NamedArray, axis: AxisSelector, **options: Any) -> NamedArray:
        if not isinstance(array, NamedArray):
            raise errors.not_named(name, array)
        return wrap(function(array.array, axis=find(array.axes, axis, array), **options), array.axes)

    along.__name__ = along.__qualname__ = name
    along.__doc__ = f"""`jnp.{name}` along the axis, which stays.

    Raises:
        AxisError: if the array lacks the axis.
    """
    return along


argsort = axiswise(jnp.argsort)
cumprod = axiswise(jnp.cumprod)
cumsum = axiswise(jnp.cumsum)
nancumprod = axiswise(jnp.nancumprod)
nancumsum = axiswise(jnp.nancumsum)
sort = axiswise(jnp.sort)


def top_k(
    array: NamedArray, axis: AxisSelector, k: int, new_axis: AxisSelector | None = None
) -> tuple[NamedArray, NamedArray]:
    """The `k` largest elements along the axis, largest first, and their positions.

    Args:
        array: a NamedArray.
        axis: the axis to search.
        k: how many.
        new_axis: the axis of the results, in place of `axis`; by default it keeps the name and has size `k`.

    Raises:
        AxisError: if the array lacks the axis.
    """
    position = find(array.axes, axis, array)
    old = array.axes[position]
    new = old.resize(k) if new_axis is None else Axis(new_axis, k) if isinstance(new_axis, str) else new_axis
    values, places = jax.lax.top_k(jnp.moveaxis(jnp.asarray(array.array), position, -1), k)
    axes = (*array.axes[:position], new, *array.axes[position + 1 :])
    return wrap(jnp.moveaxis(values, -1, position), axes), wrap(jnp.moveaxis(places, -1, position), axes)
