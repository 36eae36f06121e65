"""Functions along one axis that keep it: cumulative sums and products, sorting.

For None in place of the axis, those that `jnp` has for flat arrays give the unnamed flat array that it gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from haliax import errors
from haliax.axis import Axis, AxisSelector, check_distinct, find
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import on_any_mesh
from haliax.typing import AxiswiseFunction


def axiswise(function: Callable[..., Any]) -> AxiswiseFunction:
    """The `function` along one axis, for named arrays. Options are passed on by keyword."""
    name = function.__name__

    @on_any_mesh
    def along(a: NamedArray, axis: AxisSelector | None, dtype: Any = None, **options: Any) -> Any:
        if not isinstance(a, NamedArray):
            raise errors.not_named(name, a)
        if dtype is not None:
            options["dtype"] = dtype
        if axis is None:
            return function(a.array, axis=None, **options)
        return wrap(function(a.array, axis=find(a.axes, axis, a), **options), a.axes)

    along.__name__ = along.__qualname__ = name
    along.__doc__ = f"""`jnp.{name}` along the axis, which stays.

    Args:
        a: a NamedArray.
        axis: the axis; None for the unnamed flat array that `jnp.{name}` gives.
        dtype: of the result, for sums and products.
        options: passed on to the function of `jnp`.

    Raises:
        AxisError: if the array lacks the axis.

    >>> x = hax.arange(hax.make_axes(batch=2, embed=3))
    >>> hax.{name}(x, "embed").shape
    {{'batch': 2, 'embed': 3}}
    """
    return along  # type: ignore[return-value]


argsort = axiswise(jnp.argsort)
cumprod = cumproduct = axiswise(jnp.cumprod)
cumsum = axiswise(jnp.cumsum)
nancumprod = axiswise(jnp.nancumprod)
nancumsum = axiswise(jnp.nancumsum)
sort = axiswise(jnp.sort)


@on_any_mesh
def top_k(
    arr: NamedArray, axis: AxisSelector, k: int, new_axis: AxisSelector | None = None
) -> tuple[NamedArray, NamedArray]:
    """The `k` largest elements along the axis, largest first, and their positions.

    Args:
        arr: a NamedArray.
        axis: the axis to search.
        k: how many.
        new_axis: the axis of the results, in place of `axis`; by default it keeps the name and has size `k`.

    Raises:
        AxisError: if the array lacks the axis, or `new_axis` has another size than `k`.

    >>> values, places = hax.top_k(hax.named([3, 9, 5], "vocab"), "vocab", 2, new_axis="best")
    >>> values
    i32[best=2] [9 5]
    >>> places
    i32[best=2] [1 2]
    """
    position = find(arr.axes, axis, arr)
    old = arr.axes[position]
    new = old.resize(k) if new_axis is None else Axis(new_axis, k) if isinstance(new_axis, str) else new_axis
    if new.size != k:
        raise errors.wrong_axis_size(new, [new.resize(k)])
    values, places = jax.lax.top_k(jnp.moveaxis(jnp.asarray(arr.array), position, -1), k)
    axes = (*arr.axes[:position], new, *arr.axes[position + 1 :])
    check_distinct(axes)
    return wrap(jnp.moveaxis(values, -1, position), axes), wrap(jnp.moveaxis(places, -1, position), axes)
