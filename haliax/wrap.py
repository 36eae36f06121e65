"""Calling functions of plain arrays on named ones: for functions of one's own that this package does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from haliax import errors
from haliax.axis import Axis, AxisSelection, ensure_tuple
from haliax.core.array import NamedArray, wrap
from haliax.ops.elementwise import binary
from haliax.ops.reduce import positions, reduction
from haliax.typing import ReductionFunction as ReductionFunction
from haliax.typing import SimpleReductionFunction as SimpleReductionFunction

__all__ = [
    "ReductionFunction",
    "SimpleReductionFunction",
    "unwrap_namedarrays",
    "wrap_axiswise_call",
    "wrap_elemwise_binary",
    "wrap_elemwise_unary",
    "wrap_reduction_call",
]


def wrap_elemwise_unary(f: Callable[..., Any], a: Any, *args: Any, **kwargs: Any) -> Any:
    """`f(a, *args, **kwargs)` of the raw array, with the axes of `a`; `f` keeps the shape."""
    if not isinstance(a, NamedArray):
        return f(a, *args, **kwargs)
    return wrap(f(a.array, *args, **kwargs), a.axes)


def wrap_elemwise_binary(op: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The elementwise function `op` of two raw arrays, for named arrays, which are lined up by name."""
    return binary(op)


def wrap_reduction_call(
    fn: Callable[..., Any],
    a: Any,
    axis: AxisSelection | None,
    where: NamedArray | None = None,
    single_axis_only: bool = False,
    supports_where: bool = True,
    **kwargs: Any,
) -> Any:
    """`fn(a, axis=..., **kwargs)` over the selected axes, which go away.

    Args:
        fn: a reduction of raw arrays, such as `jnp.median`.
        a: a NamedArray, or an unnamed array to reduce whole.
        axis: the axes; None for all.
        where: which elements count.
        single_axis_only: whether `fn` takes one axis only, or None.
        supports_where: whether `fn` takes `where`.
        kwargs: passed on.

    Raises:
        AxisError: for an axis that the array lacks, or several where one is taken.
        NamedTypeError: for a `where` that is not taken.
    """
    if where is not None and not supports_where:
        raise errors.where_not_supported(fn.__name__)
    if not single_axis_only or not isinstance(a, NamedArray):
        return reduction(fn)(a, axis, where=where, **kwargs)
    if axis is None:
        return wrap(fn(a.array, axis=None, **kwargs), ())
    (gone,) = _only(fn, axis, positions(a, axis))
    return wrap(fn(a.array, axis=gone, **kwargs), a.axes[:gone] + a.axes[gone + 1 :])


def wrap_axiswise_call(
    fn: Callable[..., Any], a: Any, axis: AxisSelection | None, *, single_axis_only: bool, **kwargs: Any
) -> Any:
    """`fn(a, axis=..., **kwargs)` along the selected axes, which stay.

    Args:
        fn: a function of raw arrays that keeps the shape, such as `jnp.flip`.
        a: a NamedArray, or an unnamed array.
        axis: the axes. With None the result is the raw one of `fn(a, axis=None)`, whose shape may be another.
        single_axis_only: whether `fn` takes one axis only.
        kwargs: passed on.

    Raises:
        AxisError: for an axis that the array lacks, or several where one is taken.
    """
    if axis is None:
        return fn(*unwrap_namedarrays(a), axis=None, **kwargs)
    if not isinstance(a, NamedArray):
        raise errors.axis_of_unnamed(fn.__name__, a)
    along = positions(a, axis)
    if single_axis_only or isinstance(axis, str | Axis):
        (along,) = _only(fn, axis, along)
    return wrap(fn(a.array, axis=along, **kwargs), a.axes)


def _only(fn: Callable[..., Any], axis: AxisSelection, found: tuple[int, ...]) -> tuple[int, ...]:
    if len(found) != 1:
        raise errors.only_one_axis(fn.__name__, ensure_tuple(axis))
    return found


def unwrap_namedarrays(*a: Any) -> tuple[Any, ...]:
    """The arguments, with the raw array in place of each NamedArray."""
    return tuple(x.array if isinstance(x, NamedArray) else x for x in a)
