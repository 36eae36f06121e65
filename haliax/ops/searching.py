"""Searching, counting and comparing: functions whose results have axes of their own, or none."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax.core import Tracer

from haliax import errors
from haliax.axis import Axis, AxisSelector, find
from haliax.core.array import NamedArray, named, raw_array_or_scalar, wrap
from haliax.core.explicit import on_any_mesh
from haliax.ops.align import broadcast_raw
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


@overload
def unique(
    array: NamedArray,
    Unique: Axis,
    *,
    axis: AxisSelector | None = None,
    fill_value: Any = None,
    return_index: Literal[False] = False,
    return_inverse: Literal[False] = False,
    return_counts: Literal[False] = False,
) -> NamedArray: ...


@overload
def unique(
    array: NamedArray,
    Unique: Axis,
    *,
    axis: AxisSelector | None = None,
    fill_value: Any = None,
    return_index: Literal[True],
    return_inverse: bool = False,
    return_counts: bool = False,
) -> tuple[NamedArray, ...]: ...


@overload
def unique(
    array: NamedArray,
    Unique: Axis,
    *,
    axis: AxisSelector | None = None,
    fill_value: Any = None,
    return_index: bool = False,
    return_inverse: Literal[True],
    return_counts: bool = False,
) -> tuple[NamedArray, ...]: ...


@overload
def unique(
    array: NamedArray,
    Unique: Axis,
    *,
    axis: AxisSelector | None = None,
    fill_value: Any = None,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: Literal[True],
) -> tuple[NamedArray, ...]: ...


@on_any_mesh
def unique(
    array: NamedArray,
    Unique: Axis,
    *,
    axis: AxisSelector | None = None,
    fill_value: Any = None,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> NamedArray | tuple[NamedArray, ...]:
    """The distinct elements in ascending order, along the new axis `Unique`.

    Args:
        array: a NamedArray.
        Unique: the axis of the result, whose size is how many are given; too few are filled up.
        axis: looks for distinct slices along this axis, in whose place `Unique` then stands; None for elements.
        fill_value: what to fill up with; by default the smallest element.
        return_index: whether to give also where each is first, along `Unique`.
        return_inverse: whether to give also, for each element (or slice), which of the results it is.
        return_counts: whether to give also how often each is there, along `Unique`.

    >>> hax.unique(hax.named([3, 1, 3, 3], "position"), hax.Axis("distinct", 2), return_counts=True)
    (i32[distinct=2] [1 3], i32[distinct=2] [1 3])
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


def unique_values(
    array: NamedArray, Unique: Axis, *, axis: AxisSelector | None = None, fill_value: Any = None
) -> NamedArray:
    """The distinct elements; see `unique`."""
    return unique(array, Unique, axis=axis, fill_value=fill_value)


def unique_counts(
    array: NamedArray, Unique: Axis, *, axis: AxisSelector | None = None, fill_value: Any = None
) -> UniqueCounts:
    """The distinct elements and how often each is there; see `unique`."""
    return UniqueCounts(*unique(array, Unique, axis=axis, fill_value=fill_value, return_counts=True))


def unique_inverse(
    array: NamedArray, Unique: Axis, *, axis: AxisSelector | None = None, fill_value: Any = None
) -> UniqueInverse:
    """The distinct elements and, for each element, which of them it is; see `unique`."""
    return UniqueInverse(*unique(array, Unique, axis=axis, fill_value=fill_value, return_inverse=True))


def unique_all(
    array: NamedArray, Unique: Axis, *, axis: AxisSelector | None = None, fill_value: Any = None
) -> UniqueAll:
    """The distinct elements and all that `unique` can say about them."""
    return UniqueAll(
        *unique(
            array,
            Unique,
            axis=axis,
            fill_value=fill_value,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
    )


@on_any_mesh
def nonzero(array: NamedArray, *, size: Axis, fill_value: int = 0) -> tuple[NamedArray, ...]:
    """Where the elements are not zero: for each axis of the array, positions along `size`.

    Args:
        array: a NamedArray.
        size: the axis of the results, whose size is how many are given; too few are filled up.
        fill_value: the position to fill up with.

    >>> x = hax.named(jnp.array([[0, 1, 0], [1, 0, 1]]), ("batch", "embed"))
    >>> batches, embeds = hax.nonzero(x, size=hax.Axis("hit", 3))
    >>> embeds
    i32[hit=3] [1 0 2]
    """
    found = jnp.nonzero(array.array, size=size.size, fill_value=fill_value)
    return tuple(wrap(positions, (size,)) for positions in found)


@on_any_mesh
def searchsorted(
    a: NamedArray,
    v: NamedOrNumeric,
    *,
    side: str = "left",
    sorter: NamedOrNumeric | None = None,
    method: str = "scan",
) -> NamedArray:
    """Where in the sorted vector `a` the elements of `v` belong; the result has the axes of `v`.

    Args:
        a: the sorted vector.
        v: what to look for.
        side: "left" or "right" of equal elements.
        sorter: an order that sorts `a`.
        method: as in `jnp.searchsorted`.

    Raises:
        AxisError: if `a` is not a vector.

    >>> bounds = hax.named([10, 20, 30], "bin")
    >>> hax.searchsorted(bounds, hax.named([5, 20, 25], "position"))
    i32[position=3] [0 1 2]
    """
    if len(a.axes) != 1:
        raise errors.not_a_vector("searchsorted", a)
    wanted = v if isinstance(v, NamedArray) else named(v, ())
    order = raw_array_or_scalar(sorter)
    return wrap(jnp.searchsorted(a.array, wanted.array, side=side, sorter=order, method=method), wanted.axes)


@on_any_mesh
def bincount(x: NamedArray, Counts: Axis, *, weights: NamedOrNumeric | None = None, minlength: int = 0) -> NamedArray:
    """How often each of 0, 1, … is among the elements, along `Counts`; with weights, their sums.

    Args:
        x: a vector of integers that are not negative.
        Counts: the axis of the result; elements beyond it are not counted.
        weights: what each element counts, in its order; one by default.
        minlength: as in `jnp.bincount`; the size of `Counts` decides.

    Raises:
        AxisError: if `x` is not a vector.

    >>> hax.bincount(hax.named([0, 2, 2], "position"), hax.Axis("value", 4))
    i32[value=4] [1 0 2 0]
    """
    if len(x.axes) != 1:
        raise errors.not_a_vector("bincount", x)
    return wrap(jnp.bincount(x.array, raw_array_or_scalar(weights), minlength, length=Counts.size), (Counts,))


@on_any_mesh
def packbits(a: NamedArray, axis: AxisSelector, *, bitorder: str = "big") -> NamedArray:
    """The booleans along the axis packed, eight to a byte; the axis becomes shorter.

    Args:
        a: a NamedArray of booleans or integers.
        axis: the axis to pack.
        bitorder: "big" or "little": which bit of a byte is first.

    Raises:
        AxisError: if the array lacks the axis.
    """
    position = find(a.axes, axis, a)
    return _resized(jnp.packbits(a.array, position, bitorder), a, position)


@on_any_mesh
def unpackbits(a: NamedArray, axis: AxisSelector, *, count: int | None = None, bitorder: str = "big") -> NamedArray:
    """The bytes along the axis taken apart to bits; the axis becomes longer, or as long as `count`.

    Args:
        a: a NamedArray of `uint8`.
        axis: the axis to unpack.
        count: the size of the result's axis; by default eight times the size of `axis`.
        bitorder: "big" or "little": which bit of a byte is first.

    Raises:
        AxisError: if the array lacks the axis.
    """
    position = find(a.axes, axis, a)
    return _resized(jnp.unpackbits(a.array, position, count, bitorder), a, position)


def _resized(raw: Any, array: NamedArray, position: int) -> NamedArray:
    new = array.axes[position].resize(raw.shape[position])
    return wrap(raw, (*array.axes[:position], new, *array.axes[position + 1 :]))


@on_any_mesh
def allclose(
    a: NamedOrNumeric, b: NamedOrNumeric, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool | jax.Array:
    """Whether all elements are equal within a tolerance; broadcast by name.

    Args:
        a: a NamedArray or number.
        b: another; broadcast by name.
        rtol: the tolerance, relative to `b`.
        atol: the absolute tolerance.
        equal_nan: whether NaN equals NaN.

    Raises:
        AxisError: if neither has all axes of the other.

    >>> bool(hax.allclose(hax.ones({"batch": 2, "embed": 3}), hax.ones({"embed": 3})))
    True
    """
    left, right = _raw_pair(a, b)
    return _answer(jnp.allclose(left, right, rtol=rtol, atol=atol, equal_nan=equal_nan))


@on_any_mesh
def array_equal(a: NamedOrNumeric, b: NamedOrNumeric) -> bool | jax.Array:
    """Whether the arrays have the same axes, in any order, and equal elements.

    >>> x = hax.arange(hax.make_axes(batch=2, embed=3))
    >>> bool(hax.array_equal(x, x.rearrange(("embed", "batch"))))
    True
    """
    if isinstance(a, NamedArray) and isinstance(b, NamedArray):
        if set(a.axes) != set(b.axes):
            return False
    elif isinstance(a, NamedArray) or isinstance(b, NamedArray):
        return False
    left, right = _raw_pair(a, b)
    return _answer(jnp.array_equal(left, right))


@on_any_mesh
def array_equiv(a: NamedOrNumeric, b: NamedOrNumeric) -> bool | jax.Array:
    """Whether the arrays are equal once broadcast by name."""
    try:
        left, right = _raw_pair(a, b)
    except errors.AxisError:
        return False
    return _answer(jnp.array_equiv(left, right))


def _answer(truth: jax.Array) -> bool | jax.Array:
    """A Python bool where the numbers are known; under `jit`, a traced one."""
    return truth if isinstance(truth, Tracer) else bool(truth)


def _raw_pair(a: NamedOrNumeric, b: NamedOrNumeric) -> tuple[Any, Any]:
    if not isinstance(a, NamedArray) and not isinstance(b, NamedArray):
        return a, b
    (left, right), _, _ = broadcast_raw((a, b))
    return left, right
