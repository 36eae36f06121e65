"""Functions that change axes and leave the numbers: rename, reorder, flatten, unflatten, split, join."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, overload

import jax.numpy as jnp
import numpy as np
from jax import lax

from haliax import errors
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
from haliax.core import staging
from haliax.core.array import NamedArray, unchecked, wrap
from haliax.core.explicit import on_any_mesh
from haliax.ops import eager
from haliax.ops.reduce import positions


def rename(array: NamedArray, renames: Mapping[Any, Any]) -> NamedArray:
    """`array` with axes called otherwise: `rename(x, {"position": "key_position"})`.

    Args:
        array: a NamedArray.
        renames: from old to new, each an `Axis` or a name. Several at once may swap names.

    Raises:
        AxisError: for an old axis that the array lacks, a new one of another size, or a name that would be there twice.

    >>> x = hax.zeros({"batch": 2, "position": 3})
    >>> x.rename({"position": "key_position"}).shape
    {'batch': 2, 'key_position': 3}
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
    return transposed(array, _in_order(ensure_tuple(order), array.axes))


# A pure function, so what it remembers is never out of date, and it remembers a limited number.
@lru_cache(maxsize=4096)
def _in_order(order: tuple[Any, ...], axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return rearrange_for_partial_order(order, axes)


def transposed(array: NamedArray, axes: tuple[Axis, ...]) -> NamedArray:
    """`array` with its axes in exactly this order."""
    if axes == array.axes:
        return array
    return wrap(eager.transpose(array.array, tuple([array.axes.index(axis) for axis in axes])), axes)


@overload
def flatten_axes(array: NamedArray, old_axes: AxisSelection, new_axis: AxisSelector) -> NamedArray: ...


@overload
def flatten_axes(array: AxisSpec, old_axes: AxisSelection, new_axis: AxisSelector) -> tuple[Axis, ...]: ...


@on_any_mesh
def flatten_axes(
    array: NamedArray | AxisSpec, old_axes: AxisSelection, new_axis: AxisSelector
) -> NamedArray | tuple[Axis, ...]:
    """The axes `old_axes` as one, in the order given; it stands where the first of them in the array stood.

    Args:
        array: a NamedArray; or axes alone, of which it gives the axes.
        old_axes: the axes to merge. If they are not next to each other in this order, the array is transposed. Of none
            comes an axis of size one in front.
        new_axis: the merged axis; its size, if given, must be the product.

    Raises:
        AxisError: for an axis that the array lacks, or a size that is not the product.

    >>> x = hax.zeros({"batch": 2, "position": 3, "embed": 4})
    >>> x.flatten_axes(("batch", "position"), "token").shape
    {'token': 6, 'embed': 4}
    >>> hax.flatten_axes(x.axes, ("batch", "position"), "token")
    (Axis(name='token', size=6), Axis(name='embed', size=4))
    """
    own = array.axes if isinstance(array, NamedArray) else axes_of(array)
    merged = [find(own, selector, array) for selector in ensure_tuple(old_axes)]
    size = int(np.prod([own[position].size for position in merged], dtype=np.int64))
    new = Axis(new_axis, size) if isinstance(new_axis, str) else new_axis
    if new.size != size:
        raise errors.sizes_do_not_multiply(new.name, new.size, [own[position] for position in merged])
    first = min(merged, default=0)
    before = [p for p in range(first) if p not in merged]
    after = [p for p in range(first, len(own)) if p not in merged]
    axes = (*[own[p] for p in before], new, *[own[p] for p in after])
    check_distinct(axes)
    if not isinstance(array, NamedArray):
        return axes
    order = before + merged + after
    raw = array.array if order == sorted(order) else jnp.transpose(array.array, order)
    long = [own[position] for position in merged if own[position].size > 1]
    if len(long) == 1:  # a dimension that is reshaped to itself, and renamed
        now = [new.name if axis in long else None if axis.size == 1 else axis.name for axis in (own[p] for p in order)]
        raw = staging.mark_rename(raw, [own[p].name for p in order], now)
    return wrap(jnp.reshape(raw, [axis.size for axis in axes]), axes)


@on_any_mesh
def unflatten_axis(array: NamedArray, axis: AxisSelector, new_axes: AxisSpec) -> NamedArray:
    """The axis `axis` as several, in its place.

    Args:
        array: a NamedArray.
        axis: the axis to split.
        new_axes: what it becomes, outermost first.

    Raises:
        AxisError: if the array lacks it, or the sizes of `new_axes` do not multiply to its size.

    >>> x = hax.zeros({"position": 3, "embed": 8})
    >>> x.unflatten_axis("embed", {"heads": 2, "head_size": 4}).shape
    {'position': 3, 'heads': 2, 'head_size': 4}
    """
    position = find(array.axes, axis, array)
    old, new = array.axes[position], axes_of(new_axes)
    if int(np.prod([a.size for a in new], dtype=np.int64)) != old.size:
        raise errors.sizes_do_not_multiply(old.name, old.size, new)
    axes = (*array.axes[:position], *new, *array.axes[position + 1 :])
    check_distinct(axes)
    raw, long = array.array, [a.name for a in new if a.size > 1]
    if len(long) == 1:  # a dimension that is reshaped to itself, and renamed
        raw = staging.mark_rename(raw, names_of(array.axes), [long[0] if a is old else a.name for a in array.axes])
    return wrap(jnp.reshape(raw, [a.size for a in axes]), axes)


def flatten(array: NamedArray, new_axis_name: AxisSelector) -> NamedArray:
    """All axes as one, called `new_axis_name`. An array without axes becomes an array of one element.

    Args:
        array: a NamedArray.
        new_axis_name: the name of the merged axis, or the axis.

    >>> hax.arange(hax.make_axes(batch=2, embed=3)).flatten("element")
    i32[element=6] [0 1 2 3 4 5]
    """
    if not array.axes:
        return wrap(jnp.reshape(array.array, (1,)), axes_of(_sized(new_axis_name, 1)))
    return flatten_axes(array, array.axes, new_axis_name)


ravel = flatten


def flatten_all_axes_but(
    a: NamedArray, axis_name: str, axis: AxisSelection, reorder_to_front: bool = False
) -> tuple[NamedArray, Callable[[NamedArray], NamedArray]]:
    """The axes of `axis` as one, and the function that undoes it on an array that has `axis_name`.

    Contrary to what its name says it merges the axes that it is given: so does the published function, and code that
    calls it relies on that. `flatten_others` merges the others.

    Args:
        a: a NamedArray.
        axis_name: the name of the merged axis.
        axis: the axes to merge.
        reorder_to_front: whether the merged axis goes first.

    Raises:
        AxisError: for an axis that the array lacks.
    """
    merged = tuple(a.axes[position] for position in positions(a, axis))
    flat = flatten_axes(a, merged, axis_name)
    if reorder_to_front:
        flat = reordered(flat, (axis_name, ...))

    def unflatten(result: NamedArray) -> NamedArray:
        whole = unflatten_axis(result, axis_name, merged)
        return reordered(whole, (..., *[own for own in a.axes if own in whole.axes]))

    return flat, unflatten


def flatten_others(array: NamedArray, kept: AxisSelection, new_axis: str) -> tuple[NamedArray, Callable[..., Any]]:
    """All axes but `kept` as one called `new_axis`, and the function that undoes it on an array that has it.

    Args:
        array: a NamedArray.
        kept: the axes to keep. If there are no others, the merged axis goes first and has size one.
        new_axis: the name of the merged axis.

    Raises:
        AxisError: for an axis that the array lacks.
    """
    stays = set(positions(array, kept))
    others = tuple(axis for position, axis in enumerate(array.axes) if position not in stays)
    return flatten_axes(array, others, new_axis), lambda result: unflatten_axis(result, new_axis, others)


def _sized(axis: AxisSelector, size: int) -> Axis:
    return Axis(axis, size) if isinstance(axis, str) else axis


@on_any_mesh
def unbind(array: NamedArray, axis: AxisSelector) -> list[NamedArray]:
    """One array for each element of the axis, which they lack. Each is a static slice.

    Args:
        array: a NamedArray.
        axis: the axis to take apart.

    Raises:
        AxisError: if the array lacks the axis.

    >>> x = hax.arange(hax.make_axes(batch=2, embed=3))
    >>> first, second = x.unbind("batch")
    >>> second
    i32[embed=3] [3 4 5]
    """
    position = find(array.axes, axis, array)
    axes = array.axes[:position] + array.axes[position + 1 :]
    return [wrap(raw, axes) for raw in jnp.unstack(array.array, axis=position)]


@on_any_mesh
def split(a: NamedArray, axis: AxisSelector, new_axes: Sequence[Axis]) -> list[NamedArray]:
    """The array cut along the axis in parts, whose axes there are `new_axes`.

    Args:
        a: a NamedArray.
        axis: the axis to cut.
        new_axes: the parts, in order.

    Raises:
        AxisError: if the array lacks the axis, or the sizes of `new_axes` do not sum to its size.

    >>> x = hax.arange(hax.Axis("position", 5))
    >>> head, tail = x.split("position", hax.make_axes(head=2, tail=3))
    >>> tail
    i32[tail=3] [2 3 4]
    """
    position = find(a.axes, axis, a)
    old = a.axes[position]
    total = sum(part.size for part in new_axes)
    if total != old.size:
        raise errors.sizes_do_not_sum(old.name, old.size, total)
    raw = jnp.asarray(a.array)
    parts, start = [], 0
    for part in new_axes:
        axes = (*a.axes[:position], part, *a.axes[position + 1 :])
        check_distinct(axes)
        parts.append(wrap(lax.slice_in_dim(raw, start, start + part.size, axis=position), axes))
        start += part.size
    return parts


@on_any_mesh
def stack(axis: AxisSelector, arrays: Sequence[NamedArray]) -> NamedArray:
    """The arrays along a new first axis. They have the same axes; the order of the first decides.

    Args:
        axis: the new axis, or its name.
        arrays: NamedArrays with the same axes; none make an array of no elements.

    Raises:
        AxisError: for different axes, or an axis whose size is not the number of arrays.

    >>> x = hax.arange(hax.Axis("embed", 3))
    >>> hax.stack("layers", [x, x + 10])
    i32[layers=2, embed=3] [[ 0 1 2] [10 11 12]]
    """
    if not arrays:
        return _of_nothing(axis)
    aligned_arrays = _same_axes("stack", arrays)
    new = _sized(axis, len(arrays))
    if new.size != len(arrays):
        raise errors.sizes_do_not_sum(new.name, new.size, len(arrays))
    axes = (new, *aligned_arrays[0].axes)
    check_distinct(axes)
    return wrap(jnp.stack([array.array for array in aligned_arrays]), axes)


@on_any_mesh
def concatenate(axis: AxisSelector, arrays: Sequence[NamedArray]) -> NamedArray:
    """The arrays one after the other along an axis that they all have, with any sizes.

    Args:
        axis: the axis to join, or its name.
        arrays: NamedArrays that have it.

    Raises:
        AxisError: if one lacks the axis, they differ in another, or the size of `axis` is not the sum.

    >>> x = hax.arange(hax.Axis("position", 2))
    >>> hax.concatenate("position", [x, x + 10])
    i32[position=4] [ 0 1 10 11]
    """
    if not arrays:
        return _of_nothing(axis)
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


def _of_nothing(axis: AxisSelector) -> NamedArray:
    """What no arrays make along an axis: an array of no elements."""
    return wrap(jnp.zeros((0,)), (Axis(names_of(axis)[0], 0),))


def _same_axes(function: str, arrays: Sequence[NamedArray]) -> list[NamedArray]:
    first = arrays[0]
    for array in arrays[1:]:
        if set(array.axes) != set(first.axes):
            raise errors.different_axes(function, first, array)
    return [transposed(array, first.axes) for array in arrays]
