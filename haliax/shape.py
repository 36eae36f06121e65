"""Functions that change axes and leave the numbers: rename, reorder, flatten, unflatten, split, join, pad, roll."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from haliax import errors, staging
from haliax.array import NamedArray, unchecked, wrap
from haliax.axis import (
    Axis,
    AxisSelection,
    AxisSelector,
    AxisSpec,
    PartialAxisSpec,
    axes_of,
    check_distinct,
    ensure_tuple,
    find,
    names_of,
    rearrange_for_partial_order,
)
from haliax.reduce import positions


def rename(array: NamedArray, renames: Mapping[Any, Any]) -> NamedArray:
    """`array` with axes called otherwise: `rename(x, {"position": "key_position"})`.

    Args:
        array: a NamedArray.
        renames: from old to new, each an `Axis` or a name. Several at once may swap names.

    Raises:
        AxisError: for an old axis that the array lacks, a new one of another size, or a name that would be there twice.
    """
    axes = list(array.axes)
    for old, new in renames.items():
        position = find(array.axes, old, array)
        size = array.axes[position].size
        if isinstance(new, Axis) and new.size != size:
            raise errors.wrong_axis_size(new, [Axis(new.name, size)])
        axes[position] = Axis(new, size) if isinstance(new, str) else new
    check_distinct(axes)
    raw = array.array
    if staging.is_staging():
        raw = staging.mark_rename(raw, names_of(array.axes), names_of(axes))
    return unchecked(raw, tuple(axes))


def reordered(array: NamedArray, order: PartialAxisSpec) -> NamedArray:
    """`array` with its axes in an order, in which `...` stands for the axes that are not named.

    Raises:
        AxisError: for an axis that the array lacks or that is named twice.
    """
    return transposed(array, rearrange_for_partial_order(order, array.axes))


def transposed(array: NamedArray, axes: tuple[Axis, ...]) -> NamedArray:
    """`array` with its axes in exactly this order."""
    if axes == array.axes:
        return array
    return wrap(jnp.transpose(array.array, [array.axes.index(axis) for axis in axes]), axes)


def flatten_axes(array: NamedArray, old_axes: AxisSelection, new_axis: AxisSelector) -> NamedArray:
    """The axes `old_axes` as one, in the order given; it stands where the first of them in the array stood.

    Args:
        array: a NamedArray.
        old_axes: the axes to merge. If they are not next to each other in this order, the array is transposed.
        new_axis: the merged axis; its size, if given, must be the product.

    Raises:
        AxisError: for an axis that the array lacks, or a size that is not the product.
    """
    merged = [find(array.axes, selector, array) for selector in ensure_tuple(old_axes)]
    if not merged:
        raise errors.nothing_to_flatten(array)
    size = int(np.prod([array.axes[position].size for position in merged]))
    new = Axis(new_axis, size) if isinstance(new_axis, str) else new_axis
    if new.size != size:
        raise errors.sizes_do_not_multiply(new.name, new.size, [array.axes[position] for position in merged])
    before = [p for p in range(min(merged)) if p not in merged]
    after = [p for p in range(min(merged), len(array.axes)) if p not in merged]
    order = before + merged + after
    raw = array.array if order == sorted(order) else jnp.transpose(array.array, order)
    axes = (*[array.axes[p] for p in before], new, *[array.axes[p] for p in after])
    check_distinct(axes)
    return wrap(jnp.reshape(raw, [axis.size for axis in axes]), axes)


def unflatten_axis(array: NamedArray, axis: AxisSelector, new_axes: AxisSpec) -> NamedArray:
    """The axis `axis` as several, in its place.

    Raises:
        AxisError: if the array lacks it, or the sizes of `new_axes` do not multiply to its size.
    """
    position = find(array.axes, axis, array)
    old, new = array.axes[position], axes_of(new_axes)
    if int(np.prod([a.size for a in new], dtype=np.int64)) != old.size:
        raise errors.sizes_do_not_multiply(old.name, old.size, new)
    axes = (*array.axes[:position], *new, *array.axes[position + 1 :])
    check_distinct(axes)
    return wrap(jnp.reshape(array.array, [a.size for a in axes]), axes)


def flatten(array: NamedArray, new_axis: AxisSelector) -> NamedArray:
    """All axes as one, called `new_axis`. An array without axes becomes an array of one element."""
    if not array.axes:
        return wrap(jnp.reshape(array.array, (1,)), axes_of(_sized(new_axis, 1)))
    return flatten_axes(array, array.axes, new_axis)


ravel = flatten


def flatten_all_axes_but(
    array: NamedArray, axis: AxisSelection, new_axis: AxisSelector, reorder_to_front: bool = False
) -> tuple[NamedArray, Any]:
    """All axes but `axis` as one, and the function that undoes it on an array that has `new_axis`.

    Args:
        array: a NamedArray.
        axis: the axes to keep.
        new_axis: the name of the merged axis.
        reorder_to_front: whether the merged axis goes first.
    """
    kept = set(positions(array, axis))
    others = tuple(a for position, a in enumerate(array.axes) if position not in kept)
    if not others:
        size_one = _sized(new_axis, 1)
        flat = wrap(lax.expand_dims(array.array, [0]), (size_one, *array.axes))
        return flat, lambda result: wrap(lax.squeeze(result.array, [0]), result.axes[1:])
    flat = flatten_axes(array, others, new_axis)
    if reorder_to_front:
        flat = reordered(flat, (new_axis, ...))
    return flat, lambda result: unflatten_axis(result, new_axis, others)


def _sized(axis: AxisSelector, size: int) -> Axis:
    return Axis(axis, size) if isinstance(axis, str) else axis


def unbind(array: NamedArray, axis: AxisSelector) -> list[NamedArray]:
    """One array for each element of the axis, which they lack. Each is a static slice.

    Raises:
        AxisError: if the array lacks the axis.
    """
    position = find(array.axes, axis, array)
    axes = array.axes[:position] + array.axes[position + 1 :]
    raw = jnp.asarray(array.array)
    return [
        wrap(lax.index_in_dim(raw, index, position, keepdims=False), axes) for index in range(array.axes[position].size)
    ]


def split(array: NamedArray, axis: AxisSelector, new_axes: Sequence[Axis]) -> list[NamedArray]:
    """The array cut along the axis in parts, whose axes there are `new_axes`.

    Raises:
        AxisError: if the array lacks the axis, or the sizes of `new_axes` do not sum to its size.
    """
    position = find(array.axes, axis, array)
    old = array.axes[position]
    total = sum(part.size for part in new_axes)
    if total != old.size:
        raise errors.sizes_do_not_sum(old.name, old.size, total)
    raw = jnp.asarray(array.array)
    parts, start = [], 0
    for part in new_axes:
        axes = (*array.axes[:position], part, *array.axes[position + 1 :])
        parts.append(wrap(lax.slice_in_dim(raw, start, start + part.size, axis=position), axes))
        start += part.size
    return parts


def stack(axis: AxisSelector, arrays: Sequence[NamedArray]) -> NamedArray:
    """The arrays along a new first axis. They have the same axes; the order of the first decides.

    Raises:
        AxisError: for different axes, or an axis whose size is not the number of arrays.
    """
    aligned_arrays = _same_axes("stack", arrays)
    new = _sized(axis, len(arrays))
    if new.size != len(arrays):
        raise errors.sizes_do_not_sum(new.name, new.size, len(arrays))
    axes = (new, *aligned_arrays[0].axes)
    check_distinct(axes)
    return wrap(jnp.stack([array.array for array in aligned_arrays]), axes)


def concatenate(axis: AxisSelector, arrays: Sequence[NamedArray]) -> NamedArray:
    """The arrays one after the other along an axis that they all have, with any sizes.

    Raises:
        AxisError: if one lacks the axis, they differ in another, or the size of `axis` is not the sum.
    """
    if not arrays:
        raise errors.no_operands("concatenate")
    name = names_of(axis)[0]
    position = find(arrays[0].axes, name, arrays[0])
    parts = []
    for array in arrays:
        own = array.axes[find(array.axes, name, array)]
        axes = (*arrays[0].axes[:position], own, *arrays[0].axes[position + 1 :])
        if set(axes) != set(array.axes):
            raise errors.different_axes("concatenate", arrays[0], array)
        parts.append(transposed(array, axes))
    total = sum(part.axes[position].size for part in parts)
    new = _sized(axis, total)
    if new.size != total:
        raise errors.sizes_do_not_sum(name, new.size, total)
    axes = (*arrays[0].axes[:position], new, *arrays[0].axes[position + 1 :])
    return wrap(jnp.concatenate([part.array for part in parts], axis=position), axes)


def _same_axes(function: str, arrays: Sequence[NamedArray]) -> list[NamedArray]:
    if not arrays:
        raise errors.no_operands(function)
    first = arrays[0]
    for array in arrays[1:]:
        if set(array.axes) != set(first.axes):
            raise errors.different_axes(function, first, array)
    return [transposed(array, first.axes) for array in arrays]


def roll(array: NamedArray, shift: Any, axis: AxisSelection) -> NamedArray:
    """The elements moved along the axis by `shift` places; those that fall off come in at the other end.

    Args:
        array: a NamedArray.
        shift: a number of places, or one for each axis; may be traced.
        axis: one axis, or several.
    """
    where = positions(array, axis)
    if isinstance(shift, NamedArray):
        shift = shift.scalar()
    if isinstance(axis, str | Axis):
        return wrap(jnp.roll(array.array, shift, axis=where[0]), array.axes)
    return wrap(jnp.roll(array.array, shift, axis=where), array.axes)


def pad_left(array: NamedArray, axis: AxisSelector, new_axis: Axis, value: Any = 0) -> NamedArray:
    """The array made longer at the start of the axis, up to the size of `new_axis`, with `value`.

    Raises:
        AxisError: if `new_axis` is shorter than the axis.
    """
    position = find(array.axes, axis, array)
    amount = new_axis.size - array.axes[position].size
    if amount < 0:
        raise errors.negative_axis_size(new_axis.name, amount)
    widths = [(0, 0)] * len(array.axes)
    widths[position] = (amount, 0)
    axes = (*array.axes[:position], new_axis, *array.axes[position + 1 :])
    return wrap(jnp.pad(array.array, widths, constant_values=value), axes)


def pad(array: NamedArray, padding: Mapping[Any, Any], *, mode: str = "constant", **options: Any) -> NamedArray:
    """The array made longer along axes: `pad(x, {"position": (1, 2)})`.

    Args:
        array: a NamedArray.
        padding: for each axis how many elements to put before and after it, or one number for both.
        mode: as in `jnp.pad`.
        options: as in `jnp.pad`, such as `constant_values`.
    """
    widths = [(0, 0)] * len(array.axes)
    for selector, amount in padding.items():
        before, after = (amount, amount) if isinstance(amount, int) else amount
        widths[find(array.axes, selector, array)] = (before, after)
    axes = tuple(axis.resize(b + axis.size + a) for axis, (b, a) in zip(array.axes, widths, strict=True))
    return wrap(jnp.pad(array.array, widths, mode=mode, **options), axes)


def repeat(array: NamedArray, repeats: Any, axis: AxisSelector, total_repeat_length: int | None = None) -> NamedArray:
    """Each element along the axis repeated in place, so many times (a number, or one for each element)."""
    position = find(array.axes, axis, array)
    counts = repeats.array if isinstance(repeats, NamedArray) else repeats
    raw = jnp.repeat(array.array, counts, axis=position, total_repeat_length=total_repeat_length)
    axes = (*array.axes[:position], array.axes[position].resize(raw.shape[position]), *array.axes[position + 1 :])
    return wrap(raw, axes)


def tile(array: NamedArray, reps: Mapping[Any, int]) -> NamedArray:
    """The whole array repeated along axes: `tile(x, {"position": 2})`."""
    counts = [1] * len(array.axes)
    for selector, count in reps.items():
        counts[find(array.axes, selector, array)] = count
    axes = tuple(axis.resize(axis.size * count) for axis, count in zip(array.axes, counts, strict=True))
    return wrap(jnp.tile(array.array, counts), axes)


def tril(array: NamedArray, axis1: AxisSelector, axis2: AxisSelector, k: int = 0) -> NamedArray:
    """The array with zeros above the diagonal `k` of the matrices that `axis1` (rows) and `axis2` (columns) make."""
    return _triangle(array, axis1, axis2, k, lower=True)


def triu(array: NamedArray, axis1: AxisSelector, axis2: AxisSelector, k: int = 0) -> NamedArray:
    """The array with zeros below the diagonal `k` of the matrices that `axis1` (rows) and `axis2` (columns) make."""
    return _triangle(array, axis1, axis2, k, lower=False)


def _triangle(array: NamedArray, axis1: AxisSelector, axis2: AxisSelector, k: int, lower: bool) -> NamedArray:
    row_position, column_position = find(array.axes, axis1, array), find(array.axes, axis2, array)
    shape = tuple(axis.size for axis in array.axes)
    rows = lax.broadcasted_iota(jnp.int32, shape, row_position)
    columns = lax.broadcasted_iota(jnp.int32, shape, column_position)
    kept = columns <= rows + k if lower else columns >= rows + k
    return wrap(jnp.where(kept, array.array, jnp.zeros((), array.dtype)), array.axes)
