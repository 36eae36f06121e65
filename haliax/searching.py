"""Searching, counting and comparing: functions whose results have axes of their own, or none."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from haliax import errors
from haliax.align import broadcast_raw
from haliax.array import NamedArray, wrap
from haliax.axis import Axis, AxisSelector, find
from haliax.typing import NamedOrNumeric


class UniqueAll(NamedTuple):
    """What `unique_all` gives."""

    values: NamedArray
    indices: NamedArray
    inverse_indices: NamedArray
    counts: NamedArray


class UniqueCounts(NamedTuple):
    """What `unique_counts` gives."""

    values: NamedArray
    counts: NamedArray


class UniqueInverse(NamedTuple):
    """What `unique_inverse` gives."""

    values: NamedArray
    inverse_indices: NamedArray


def unique(
    array: NamedArray,
    Unique: Axis,
    *,
    axis: AxisSelector | None = None,
    fill_value: Any = None,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:
    """The distinct elements in ascending order, along the new axis `Unique`.

    Args:
        array: a NamedArray.
        Unique: the axis of the result, whose size is how many are given; too few are filled up.
        axis: looks for distinct slices along this axis, in whose place `Unique` then stands; None for elements.
        fill_value: what to fill up with; by default the smallest element.
        return_index: whether to give also where each is first, along `Unique`.
        return_inverse: whether to give also, for each element (or slice), which of the results it is.
        return_counts: whether to give also how often each is there, along `Unique`.
    """
    position = None if axis is None else find(array.axes, axis, array)
    found = jnp.unique(
        array.array,
        return_index=return_index,
        return_inverse=return_inverse,
        return_counts=return_counts,
        axis=position,
        size=Unique.size,
        fill_value=fill_value,
    )
    several = return_index or return_inverse or return_counts
    parts = list(found) if several else [found]
    axes = (Unique,) if position is None else (*array.axes[:position], Unique, *array.axes[position + 1 :])
    results = [wrap(parts.pop(0), axes)]
    if return_index:
        results.append(wrap(parts.pop(0), (Unique,)))
    if return_inverse:
        own = array.axes if position is None else (array.axes[position],)
        results.append(wrap(jnp.reshape(parts.pop(0), [a.size for a in own]), own))
    if return_counts:
        results.append(wrap(parts.pop(0), (Unique,)))
    return tuple(results) if several else results[0]


def unique_values(array: NamedArray, Unique: Axis, *, fill_value: Any = None) -> NamedArray:
    """The distinct elements; see `unique`."""
    return unique(array, Unique, fill_value=fill_value)


def unique_counts(array: NamedArray, Unique: Axis, *, fill_value: Any = None) -> UniqueCounts:
    """The distinct elements and how often each is there; see `unique`."""
    return UniqueCounts(*unique(array, Unique, fill_value=fill_value, return_counts=True))


def unique_inverse(array: NamedArray, Unique: Axis, *, fill_value: Any = None) -> UniqueInverse:
    """The distinct elements and, for each element, which of them it is; see `unique`."""
    return UniqueInverse(*unique(array, Unique, fill_value=fill_value, return_inverse=True))


def unique_all(array: NamedArray, Unique: Axis, *, fill_value: Any = None) -> UniqueAll:
    """The distinct elements and all that `unique` can say about them."""
    return UniqueAll(
        *unique(array, Unique, fill_value=fill_value, return_index=True, return_inverse=True, return_counts=True)
    )


def nonzero(array: NamedArray, new_axis: AxisSelector, *, size: int | None = None, fill_value: Any = 0) -> Any:
    """Where the elements are not zero: for each axis of the array, positions along `new_axis`.

    Args:
        array: a NamedArray.
        new_axis: the axis of the results; its size, if given, is how many are given.
        size: how many are given, if `new_axis` is a name; by default as many as there are (not under `jit`).
        fill_value: what to fill up with.
    """
    count = size if isinstance(new_axis, str) else new_axis.size
    found = jnp.nonzero(array.array, size=count, fill_value=fill_value if count is not None else None)
    name = new_axis if isinstance(new_axis, str) else new_axis.name
    return tuple(wrap(positions, (Axis(name, positions.shape[0]),)) for positions in found)


def searchsorted(
    a: NamedArray, v: NamedOrNumeric, *, side: str = "left", sorter: NamedArray | None = None, method: str = "scan"
) -> NamedArray:
    """Where in the sorted vector `a` the elements of `v` belong; the result has the axes of `v`.

    Raises:
        AxisError: if `a` is not a vector.
    """
    if len(a.axes) != 1:
        raise errors.not_a_vector("searchsorted", a)
    raw, axes = (v.array, v.axes) if isinstance(v, NamedArray) else (jnp.asarray(v), ())
    order = None if sorter is None else sorter.array
    return wrap(jnp.searchsorted(a.array, raw, side=side, sorter=order, method=method), axes)


def bincount(array: NamedArray, Counts: Axis, *, weights: NamedArray | None = None) -> NamedArray:
    """How often each of 0, 1, … is among the elements, along `Counts`; with weights, their sums.

    Raises:
        AxisError: if `array` is not a vector.
    """
    if len(array.axes) != 1:
        raise errors.not_a_vector("bincount", array)
    amounts = None if weights is None else weights.array
    return wrap(jnp.bincount(array.array, amounts, length=Counts.size), (Counts,))


def packbits(array: NamedArray, axis: AxisSelector, *, bitorder: str = "big") -> NamedArray:
    """The booleans along the axis packed, eight to a byte; the axis becomes shorter."""
    position = find(array.axes, axis, array)
    return _resized(jnp.packbits(array.array, position, bitorder), array, position)


def unpackbits(array: NamedArray, axis: AxisSelector, *, count: int | None = None, bitorder: str = "big") -> NamedArray:
    """The bytes along the axis taken apart to bits; the axis becomes longer, or as long as `count`."""
    position = find(array.axes, axis, array)
    return _resized(jnp.unpackbits(array.array, position, count, bitorder), array, position)


def _resized(raw: Any, array: NamedArray, position: int) -> NamedArray:
    new = array.axes[position].resize(raw.shape[position])
    return wrap(raw, (*array.axes[:position], new, *array.axes[position + 1 :]))


def allclose(
    a: NamedOrNumeric, b: NamedOrNumeric, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether all elements are equal within a tolerance; broadcast by name."""
    left, right = _raw_pair(a, b)
    return jnp.allclose(left, right, rtol=rtol, atol=atol, equal_nan=equal_nan)


def array_equal(a: NamedOrNumeric, b: NamedOrNumeric) -> Any:
    """Whether the arrays have the same axes, in any order, and equal elements."""
    if isinstance(a, NamedArray) and isinstance(b, NamedArray):
        if set(a.axes) != set(b.axes):
            return jnp.asarray(False)
    elif isinstance(a, NamedArray) or isinstance(b, NamedArray):
        return jnp.asarray(False)
    left, right = _raw_pair(a, b)
    return jnp.array_equal(left, right)


def array_equiv(a: NamedOrNumeric, b: NamedOrNumeric) -> Any:
    """Whether the arrays are equal once broadcast by name."""
    try:
        left, right = _raw_pair(a, b)
    except errors.AxisError:
        return jnp.asarray(False)
    return jnp.array_equiv(left, right)


def _raw_pair(a: NamedOrNumeric, b: NamedOrNumeric) -> tuple[Any, Any]:
    if not isinstance(a, NamedArray) and not isinstance(b, NamedArray):
        return a, b
    (left, right), _ = broadcast_raw((a, b))
    return left, right
