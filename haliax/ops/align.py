"""Broadcasting by name: bringing operands to one set of axes, cheaply.

Operands are lined up by the names of their axes. One of them must have all axes of the others, and the result has its
axes in its order (the first such operand decides). The others are transposed to that order if need be and given
dimensions of size one where they lack an axis; none is ever copied out to the full shape. So a mask of two axes beside
scores of four stays as small as it is, and the big operand is never transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from haliax import errors
from haliax.axis import Axis, AxisSelection, axes_of, ensure_tuple
from haliax.core.array import NamedArray, held, hold, unchecked, wrap
from haliax.core.explicit import SHARDING_ERRORS, on_any_mesh, retried
from haliax.ops.eager import expand_dims, transpose


def common_axes(operands: Sequence[NamedArray]) -> tuple[Axis, ...]:
    """The axes of the first operand that has all axes of all operands.

    Raises:
        AxisError: if none has them all, or a name has two sizes.
    """
    axes = _covering(tuple([operand.axes for operand in operands]))
    if axes is None:
        union_axes_of(operands)
        raise errors.not_broadcastable(*operands)
    return axes


# Both functions below are pure, so what they remember is never out of date, and they remember a limited number.
@lru_cache(maxsize=4096)
def _covering(operands: tuple[tuple[Axis, ...], ...]) -> tuple[Axis, ...] | None:
    everything = {axis for axes in operands for axis in axes}
    return next((axes for axes in operands if len(axes) == len(everything)), None)


def union_axes_of(operands: Sequence[NamedArray]) -> tuple[Axis, ...]:
    """The axes of the first operand, then the further ones of the others.

    Raises:
        AxisError: for a name with two sizes, showing the two operands.
    """
    owners: dict[str, tuple[Axis, NamedArray]] = {}
    for operand in operands:
        for axis in operand.axes:
            known, owner = owners.setdefault(axis.name, (axis, operand))
            if known.size != axis.size:
                raise errors.two_sizes(axis.name, known.size, owner, axis.size, operand)
    return tuple(axis for axis, _ in owners.values())


def aligned(operand: NamedArray, axes: tuple[Axis, ...]) -> Any:
    """The raw array of `operand`, as it broadcasts by position against an array with `axes`.

    It has their order, and a dimension of size one for each axis that it lacks; in front these are left out, because
    broadcasting puts them there (unless JAX is told to refuse that).

    Raises:
        AxisError: if the operand has an axis that `axes` lacks.
    """
    operand = held(operand)
    own = operand.axes
    if own == axes or not own:
        return operand.array
    order, absent, missing = _placement(own, axes, _ranks_are_promoted())
    if missing:
        raise errors.axes_missing_in_target(missing, operand, axes)
    array = operand.array if order is None else transpose(operand.array, order)
    return expand_dims(array, absent) if absent else array


@lru_cache(maxsize=4096)
def _placement(
    own: tuple[Axis, ...], axes: tuple[Axis, ...], ranks_are_promoted: bool
) -> tuple[tuple[int, ...] | None, tuple[int, ...], tuple[str, ...]]:
    """How to bring an array with axes `own` to `axes`: its new order, dimensions to insert, and what `axes` lacks."""
    names = [axis.name for axis in own]
    wanted = [axis.name for axis in axes]
    missing = tuple(name for name in names if name not in wanted)
    if missing:
        return None, (), missing
    order = tuple(names.index(name) for name in wanted if name in names)
    first = wanted.index(names[order[0]]) if ranks_are_promoted else 0
    absent = tuple(at - first for at, name in enumerate(wanted) if at >= first and name not in names)
    return None if order == tuple(sorted(order)) else order, absent, ()


def _ranks_are_promoted() -> bool:
    return getattr(jax.config, "jax_numpy_rank_promotion", "allow") == "allow"


def broadcast_raw(operands: Sequence[Any]) -> tuple[list[Any], tuple[Axis, ...], tuple[Axis, ...]]:
    """Raw arrays that broadcast against each other, the axes of what comes out, and the order to `hold` it in.

    Scalars pass through.

    Raises:
        AxisError: if no operand has all axes, or an unnamed array with dimensions stands beside named ones.
        NamedTypeError: if no operand is a NamedArray.
    """
    named_operands = [operand for operand in operands if isinstance(operand, NamedArray)]
    if not named_operands:
        raise errors.no_operands("this function")
    order = common_axes(named_operands)
    axes = common_axes([held(operand) for operand in named_operands])
    return [_raw(operand, axes, named_operands[0]) for operand in operands], axes, order


def broadcast_call(function: Callable[..., Any], operands: Sequence[Any]) -> NamedArray:
    """`function` of the raw arrays of the operands, broadcast by name; it gives one array."""
    raw, axes, order = broadcast_raw(operands)
    try:
        return hold(unchecked(function(*raw), axes), order)
    except SHARDING_ERRORS as error:
        return retried(error, lambda *again: broadcast_call(function, again), *operands)


def _raw(operand: Any, axes: tuple[Axis, ...], beside: NamedArray) -> Any:
    if isinstance(operand, NamedArray):
        return aligned(operand, axes)
    shape = getattr(operand, "shape", ())
    if shape and not _fits(shape, axes):
        raise errors.unnamed_operand(beside, operand)
    return operand


def _fits(shape: Sequence[int], axes: Sequence[Axis]) -> bool:
    """Whether an unnamed array broadcasts to the axes by position, without enlarging them."""
    sizes = [axis.size for axis in axes]
    tail = sizes[len(sizes) - len(shape) :] if len(shape) <= len(sizes) else None
    return tail is not None and all(size in (1, own) for size, own in zip(shape, tail, strict=True))


def require_same_sizes(function: str, argument: str, value: NamedArray, other: str, array: NamedArray) -> None:
    """Raises AxisError if a named argument has an axis of the array with another size.

    Args:
        function: the function or layer, for the error.
        argument: the name of the argument, for the error.
        value: what was given.
        other: what the array is, for the error: `` `query` `` or `the scores`.
        array: what the argument is lined up with by name.
    """
    sizes = {axis.name: axis.size for axis in array.axes}
    for axis in value.axes:
        if sizes.get(axis.name, axis.size) != axis.size:
            raise errors.other_size_beside(function, argument, axis, value, other, array)


def require_beside(
    function: str,
    argument: str,
    value: Any,
    other: str,
    array: NamedArray,
    *,
    may_have_all: bool = False,
    by_position: bool = True,
) -> None:
    """Raises if an argument that is lined up by name with an array does not broadcast to it.

    Args:
        function: the function or layer, for the error.
        argument: the name of the argument, for the error.
        value: what was given: a NamedArray, a number, or an unnamed array.
        other: what the array is, for the error.
        array: what the argument is lined up with.
        may_have_all: whether the argument may have further axes if it has all of the array.
        by_position: whether it may be unnamed and broadcast by position.

    Raises:
        NamedTypeError: if it is no array, or an unnamed one that does not broadcast.
        AxisError: for an axis of another size, or one that the array lacks.
    """
    if not isinstance(value, NamedArray):
        if not is_number_or_array(value) or not _fits(getattr(value, "shape", ()), array.axes if by_position else ()):
            raise errors.layer_needs_named(function, argument, value)
        return
    require_same_sizes(function, argument, value, other, array)
    extra = [axis.name for axis in value.axes if axis not in array.axes]
    if extra and not (may_have_all and set(array.axes) <= set(value.axes)):
        raise errors.axis_not_beside(function, argument, extra[0], value, other, array)


def require_boolean(function: str, where: Any) -> None:
    """Raises NamedTypeError if `where`, an array or a number, is not boolean."""
    if np.dtype(getattr(where, "dtype", type(where))) != np.bool_:
        raise errors.where_not_boolean(function, where)


def is_number_or_array(value: Any) -> bool:
    """Whether this broadcasts by position: a number of Python, or what has a shape and a dtype."""
    return isinstance(value, bool | int | float | complex) or (hasattr(value, "shape") and hasattr(value, "dtype"))


@on_any_mesh
def broadcast_to(
    a: Any, axes: AxisSelection, ensure_order: bool = True, enforce_no_extra_axes: bool = True
) -> NamedArray:
    """`a` with all of `axes`. If it has further axes and its order does not fit, these go last.

    Args:
        a: a NamedArray or a scalar.
        axes: the axes to have; a bare name for one that `a` has.
        ensure_order: whether the result has exactly the order of `axes`; without it, an array that has them all already
            is returned as it is, and missing axes are put in front.
        enforce_no_extra_axes: whether an axis of `a` beyond `axes` is an error.

    Raises:
        AxisError: for an axis beyond `axes`, or one of another size.

    >>> hax.broadcast_to(hax.arange(hax.Axis("embed", 3)), {"batch": 2, "embed": 3})
    i32[batch=2, embed=3] [[0 1 2] [0 1 2]]
    """
    array = a if isinstance(a, NamedArray) else NamedArray(jnp.asarray(a), ())
    sizes = {axis.name: axis for axis in array.axes}
    target = axes_of(tuple(sizes.get(s, s) if isinstance(s, str) else s for s in ensure_tuple(axes)))
    everything = union_axes_of([unchecked(None, target), array])
    extra = [axis.name for axis in array.axes if axis not in target]
    if extra and enforce_no_extra_axes:
        raise errors.axes_missing_in_target(extra, array, target)
    if not ensure_order:
        if len(everything) == len(array.axes):
            return array
        everything = tuple(axis for axis in target if axis not in array.axes) + array.axes
    elif extra:
        kept = tuple(axis for axis in target if axis not in array.axes) + array.axes
        if [axis for axis in kept if axis in target] == list(target):
            everything = kept
    if everything == array.axes:
        return array
    return wrap(jnp.broadcast_to(aligned(array, everything), [axis.size for axis in everything]), everything)


def broadcast_axis(a: NamedArray, axis: AxisSelection) -> NamedArray:
    """`a` with all axes of `axis`, in this order; if its own order does not fit, its further axes go last.

    Args:
        a: a NamedArray.
        axis: the axes to have.

    Raises:
        AxisError: if it has one of them with another size.

    >>> hax.broadcast_axis(hax.arange(hax.Axis("embed", 3)), hax.Axis("batch", 2))
    i32[batch=2, embed=3] [[0 1 2] [0 1 2]]
    """
    return broadcast_to(a, axis, enforce_no_extra_axes=False)


def broadcast_arrays(*arrays: Any, require_subset: bool = True, ensure_order: bool = True) -> tuple[Any, ...]:
    """The arrays, each with all axes of all of them.

    Args:
        arrays: NamedArrays. Numbers, unnamed arrays and None are handed back as they are.
        require_subset: whether one of them must have all axes already. If not, the result has the axes of the largest
            last, and in front of these those that it lacks.
        ensure_order: whether the results have the same order of axes.

    Raises:
        AxisError: for a name with two sizes, or if `require_subset` and none has all axes.

    >>> x, y = hax.ones({"batch": 2, "embed": 3}), hax.ones({"embed": 3})
    >>> [array.shape for array in hax.broadcast_arrays(x, y)]
    [{'batch': 2, 'embed': 3}, {'batch': 2, 'embed': 3}]
    """
    return broadcast_arrays_and_return_axes(*arrays, require_subset=require_subset, ensure_order=ensure_order)[0]


def broadcast_arrays_and_return_axes(
    *arrays: Any, require_subset: bool = True, ensure_order: bool = True
) -> tuple[tuple[Any, ...], tuple[Axis, ...]]:
    """Like `broadcast_arrays`, with the axes that the results have."""
    named = [array for array in arrays if isinstance(array, NamedArray)]
    if not named:
        return arrays, ()
    axes = common_axes(named) if require_subset else all_axes(named)
    results = [broadcast_to(a, axes, ensure_order=ensure_order) if isinstance(a, NamedArray) else a for a in arrays]
    return tuple(results), axes


def all_axes(arrays: Sequence[NamedArray]) -> tuple[Axis, ...]:
    """The axes of the largest array, which need to be moved least, behind those that only smaller ones have.

    Raises:
        AxisError: for a name with two sizes, showing the two operands.
    """
    if len(arrays) == 1:
        return arrays[0].axes
    union_axes_of(arrays)
    axes: tuple[Axis, ...] = ()
    for array in sorted(arrays, key=lambda array: -array.size):
        axes = (*[axis for axis in array.axes if axis not in axes], *axes)
    return axes


def _broadcast_order(a: NamedArray, b: NamedArray, require_subset: bool = True) -> tuple[Axis, ...]:
    """The axes that two arrays have once broadcast."""
    return broadcast_arrays_and_return_axes(a, b, require_subset=require_subset)[1]
