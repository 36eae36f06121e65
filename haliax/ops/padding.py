"""Functions that keep the axes, and move or add elements along them: roll, pad, repeat, tile, triangles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from haliax import errors
from haliax.axis import Axis, AxisSelection, AxisSelector, find, names_of
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import on_any_mesh
from haliax.ops.reduce import positions
from haliax.ops.shape import reordered


@on_any_mesh
def roll(array: NamedArray, shift: Any, axis: AxisSelection) -> NamedArray:
    """The elements moved along the axis by `shift` places; those that fall off come in at the other end.

    Args:
        array: a NamedArray.
        shift: a number of places, or one for each axis; may be traced.
        axis: one axis, or several.

    >>> hax.roll(hax.arange(hax.Axis("position", 4)), 1, "position")
    i32[position=4] [3 0 1 2]
    """
    where = positions(array, axis)
    if isinstance(shift, NamedArray):
        shift = shift.scalar()
    if isinstance(axis, str | Axis):
        return wrap(jnp.roll(array.array, shift, axis=where[0]), array.axes)
    return wrap(jnp.roll(array.array, shift, axis=where), array.axes)


@on_any_mesh
def pad_left(array: NamedArray, axis: AxisSelector, new_axis: Axis, value: Any = 0) -> NamedArray:
    """The array made longer at the start of the axis, up to the size of `new_axis`, with `value`.

    Args:
        array: a NamedArray.
        axis: the axis to lengthen.
        new_axis: what it is afterwards.
        value: what to put there.

    Raises:
        AxisError: if `new_axis` is shorter than the axis.

    >>> hax.pad_left(hax.arange(hax.Axis("position", 2)), "position", hax.Axis("position", 4), value=-1)
    i32[position=4] [-1 -1 0 1]
    """
    position = find(array.axes, axis, array)
    amount = new_axis.size - array.axes[position].size
    if amount < 0:
        raise errors.negative_axis_size(new_axis.name, amount)
    widths = [(0, 0)] * len(array.axes)
    widths[position] = (amount, 0)
    axes = (*array.axes[:position], new_axis, *array.axes[position + 1 :])
    return wrap(jnp.pad(array.array, widths, constant_values=value), axes)


@on_any_mesh
def pad(
    array: NamedArray, pad_width: Mapping[Any, Any], *, mode: str = "constant", constant_values: Any = 0, **kwargs: Any
) -> NamedArray:
    """The array made longer along axes: `pad(x, {"position": (1, 2)})`.

    Args:
        array: a NamedArray.
        pad_width: for each axis how many elements to put before and after it, or one number for both.
        mode: as in `jnp.pad`.
        constant_values: what to put there in the mode "constant".
        kwargs: options of the other modes, as in `jnp.pad`.

    Raises:
        AxisError: for an axis that the array lacks.

    >>> hax.pad(hax.arange(hax.Axis("position", 2)), {"position": (1, 2)}, constant_values=-1)
    i32[position=5] [-1 0 1 -1 -1]
    """
    widths = [(0, 0)] * len(array.axes)
    for selector, amount in pad_width.items():
        before, after = (amount, amount) if isinstance(amount, int | np.integer) else amount
        widths[find(array.axes, selector, array)] = (int(before), int(after))
    if mode == "constant":
        kwargs["constant_values"] = constant_values
    axes = tuple(axis.resize(b + axis.size + a) for axis, (b, a) in zip(array.axes, widths, strict=True))
    return wrap(jnp.pad(array.array, widths, mode=mode, **kwargs), axes)


@on_any_mesh
def repeat(a: NamedArray, repeats: Any, axis: AxisSelector, total_repeat_length: int | None = None) -> NamedArray:
    """Each element along the axis repeated in place, so many times (a number, or one for each element).

    Args:
        a: a NamedArray.
        repeats: a number, or a vector of one for each element.
        axis: the axis to repeat along.
        total_repeat_length: the size of the result's axis; needed under `jit` if `repeats` is an array.

    Raises:
        AxisError: if the array lacks the axis.

    >>> hax.repeat(hax.arange(hax.Axis("position", 2)), 2, "position")
    i32[position=4] [0 0 1 1]
    """
    position = find(a.axes, axis, a)
    counts = repeats.array if isinstance(repeats, NamedArray) else repeats
    raw = jnp.repeat(a.array, counts, axis=position, total_repeat_length=total_repeat_length)
    axes = (*a.axes[:position], a.axes[position].resize(raw.shape[position]), *a.axes[position + 1 :])
    return wrap(raw, axes)


@on_any_mesh
def tile(a: NamedArray, reps: Mapping[Any, int]) -> NamedArray:
    """The whole array repeated along axes: `tile(x, {"position": 2})`.

    Args:
        a: a NamedArray.
        reps: for each axis how often. An axis that the array lacks comes in front, with so many elements.

    >>> hax.tile(hax.arange(hax.Axis("position", 2)), {"position": 2})
    i32[position=4] [0 1 0 1]
    """
    counts = {names_of(selector)[0]: count for selector, count in reps.items()}
    new = [Axis(name, count) for name, count in counts.items() if not a.has_axis(name)]
    old = [axis.resize(axis.size * counts.get(axis.name, 1)) for axis in a.axes]
    repeats = [*[axis.size for axis in new], *[counts.get(axis.name, 1) for axis in a.axes]]
    return wrap(jnp.tile(a.array, repeats), (*new, *old))


def tril(array: NamedArray, axis1: AxisSelector, axis2: AxisSelector, k: int = 0) -> NamedArray:
    """The array with zeros above the diagonal `k` of the matrices that `axis1` (rows) and `axis2` (columns) make.

    These two stand last in the result.

    Args:
        array: a NamedArray.
        axis1: the rows.
        axis2: the columns.
        k: the diagonal; positive ones lie above the main one.

    Raises:
        AxisError: if the array lacks the axis.

    >>> hax.tril(hax.ones({"row": 2, "column": 2}), "row", "column")
    f32[row=2, column=2] [[1. 0.] [1. 1.]]
    """
    return _triangle(array, axis1, axis2, k, lower=True)


def triu(array: NamedArray, axis1: AxisSelector, axis2: AxisSelector, k: int = 0) -> NamedArray:
    """The array with zeros below the diagonal `k` of the matrices that `axis1` (rows) and `axis2` (columns) make.

    These two stand last in the result.

    Args:
        array: a NamedArray.
        axis1: the rows.
        axis2: the columns.
        k: the diagonal; positive ones lie above the main one.

    Raises:
        AxisError: if the array lacks the axis.

    >>> hax.triu(hax.ones({"row": 2, "column": 2}), "row", "column", k=1)
    f32[row=2, column=2] [[0. 1.] [0. 0.]]
    """
    return _triangle(array, axis1, axis2, k, lower=False)


@on_any_mesh
def _triangle(array: NamedArray, axis1: AxisSelector, axis2: AxisSelector, k: int, lower: bool) -> NamedArray:
    last = array.axes[find(array.axes, axis1, array)], array.axes[find(array.axes, axis2, array)]
    array = reordered(array, (..., *last))
    shape = tuple(axis.size for axis in array.axes)
    rows = lax.broadcasted_iota(jnp.int32, shape, array.ndim - 2)
    columns = lax.broadcasted_iota(jnp.int32, shape, array.ndim - 1)
    kept = columns <= rows + k if lower else columns >= rows + k
    return wrap(jnp.where(kept, array.array, jnp.zeros((), array.dtype)), array.axes)
