"""Indexing by name: `x["batch", 3]`, `x[{"batch": 0, "position": slice(1, 5)}]`, `take`, `slice`, `.at`.

Integers and slices with known ends become static slices, `dslice`s become dynamic slices, and integer arrays one
gather. The axes of an index array stand in the result where the indexed axis stood; several index arrays are broadcast
against each other by name. An axis that an index array shares with the array itself is walked together with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from haliax import errors
from haliax.align import aligned, broadcast_to, union_axes_of
from haliax.array import NamedArray, unchecked, wrap
from haliax.axis import Axis, AxisSelector, find, names_of
from haliax.typing import NamedOrNumeric

_slice = slice


@dataclass(frozen=True)
class dslice:  # noqa: N801  (published under this name)
    """A slice with a start that may be traced, and a known size: `x["position", dslice(start, 16)]`."""

    start: Any
    size: int

    def __init__(self, start: Any, length: int | Axis | None = None):
        first, size = (0, start) if length is None else (start, length)
        object.__setattr__(self, "start", first.scalar() if isinstance(first, NamedArray) else first)
        object.__setattr__(self, "size", size.size if isinstance(size, Axis) else int(size))

    @classmethod
    def block(cls, index: Any, size: int) -> dslice:
        """The block number `index` of blocks of this size."""
        return cls(index * size, size)


ds = dslice


def dblock(index: Any, size: int) -> dslice:
    """The block number `index` of blocks of this size, as a slice."""
    return dslice.block(index, size)


def index(array: NamedArray, selection: Mapping[Any, Any]) -> NamedArray:
    """The elements that the selection names: from axes to integers, slices, `dslice`s or integer arrays.

    Raises:
        AxisError: for an axis that the array lacks.
        IndexError: for an integer that is out of range.
    """
    gathers: dict[str, NamedArray] = {}
    for selector, chosen in selection.items():
        name = names_of(selector)[0]
        find(array.axes, selector, array)
        if isinstance(chosen, _slice | dslice):
            array = _sliced(array, name, chosen)
        elif isinstance(chosen, int | np.integer) and not isinstance(chosen, bool | np.bool_):
            array = _element(array, name, int(chosen))
        else:
            gathers[name] = _index_array(chosen, array.axes[find(array.axes, name)])
    if not gathers:
        return array
    return _gathered(array, gathers)


def getitem(array: NamedArray, key: Any) -> NamedArray:
    """`x["batch", 0, "position", 1:3]` and `x[{"batch": 0}]`: see `index`."""
    return index(array, selection_of(key))


def selection_of(key: Any) -> Mapping[Any, Any]:
    """The mapping from axes to indices that a subscript means."""
    if isinstance(key, Mapping):
        return key
    if isinstance(key, tuple) and len(key) == 1 and isinstance(key[0], Mapping):
        return key[0]
    if not isinstance(key, tuple) or len(key) % 2 or not all(isinstance(name, str | Axis) for name in key[::2]):
        raise errors.bad_index(key)
    return dict(zip(key[::2], key[1::2], strict=True))


def _element(array: NamedArray, name: str, number: int) -> NamedArray:
    position = find(array.axes, name, array)
    size = array.axes[position].size
    if not -size <= number < size:
        raise errors.index_out_of_range(name, number, array)
    raw = lax.index_in_dim(jnp.asarray(array.array), number, position, keepdims=False)
    return wrap(raw, array.axes[:position] + array.axes[position + 1 :])


def _sliced(array: NamedArray, name: str, chosen: Any) -> NamedArray:
    position = find(array.axes, name, array)
    axis, raw = array.axes[position], jnp.asarray(array.array)
    if isinstance(chosen, dslice):
        return _dynamic(array, position, chosen.start, axis.resize(chosen.size))
    start, stop, step = (_static(part) for part in (chosen.start, chosen.stop, chosen.step))
    length = len(range(*_slice(start, stop, step).indices(axis.size)))
    if length == axis.size and step in (None, 1):
        return array
    cut = raw[(_slice(None),) * position + (_slice(start, stop, step),)]
    return wrap(cut, (*array.axes[:position], axis.resize(length), *array.axes[position + 1 :]))


def _static(bound: Any) -> int | None:
    return None if bound is None else bound.__index__()


def _dynamic(array: NamedArray, position: int, start: Any, new_axis: Axis) -> NamedArray:
    """A slice of the size of `new_axis`, static where the start is known."""
    axis = array.axes[position]
    axes = (*array.axes[:position], new_axis, *array.axes[position + 1 :])
    if isinstance(start, NamedArray):
        start = start.scalar()
    if isinstance(start, int | np.integer):
        if not 0 <= start <= axis.size - new_axis.size:
            raise errors.slice_out_of_range(axis.name, int(start), new_axis.size, array)
        raw = lax.slice_in_dim(jnp.asarray(array.array), int(start), int(start) + new_axis.size, axis=position)
    else:
        if new_axis.size > axis.size:
            raise errors.slice_out_of_range(axis.name, 0, new_axis.size, array)
        raw = lax.dynamic_slice_in_dim(array.array, start, new_axis.size, axis=position)
    return wrap(raw, axes)


def slice(  # noqa: A001
    array: NamedArray,
    axis: AxisSelector | Mapping[Any, Any],
    new_axis: AxisSelector | Mapping[Any, Any] | None = None,
    start: Any = 0,
    length: int | Mapping[Any, int] | Axis | None = None,
) -> NamedArray:
    """Part of the array along one axis, or along several given as mappings.

    `slice(x, "position", start=2, length=4)`, `slice(x, Position, Position.resize(4), start)`,
    `slice(x, {"position": 2, "embed": 0}, length={"position": 4, "embed": 8})`.

    Args:
        array: a NamedArray.
        axis: the axis to cut, or a mapping from axes to starts.
        new_axis: what the axis is afterwards: an `Axis`, or a name if `length` is given. By default its name stays.
        start: the first element, may be traced (then it is clamped so that the slice fits, as in XLA).
        length: the number of elements.

    Raises:
        AxisError: if the array lacks the axis.
        IndexError: if the slice is known to be out of range.
    """
    if isinstance(axis, Mapping):
        for selector, first in axis.items():
            name = names_of(selector)[0]
            array = slice(array, selector, _entry(new_axis, name), first, _entry(length, name))
        return array
    position = find(array.axes, axis, array)
    if isinstance(new_axis, Axis):
        return _dynamic(array, position, start, new_axis)
    if length is None or isinstance(length, Mapping) or isinstance(new_axis, Mapping):
        raise errors.slice_without_length(names_of(axis)[0], array)
    size = length.size if isinstance(length, Axis) else int(length)
    return _dynamic(array, position, start, Axis(new_axis or array.axes[position].name, size))


def _entry(mapping: Any, name: str) -> Any:
    if not isinstance(mapping, Mapping):
        return mapping
    return next((value for selector, value in mapping.items() if names_of(selector)[0] == name), None)


def updated_slice(array: NamedArray, start: Mapping[Any, Any], update: NamedArray) -> NamedArray:
    """The array with `update` in place of the part that begins at `start`: a mapping from axes to first elements.

    `update` has the axes of `array`, shorter where it is cut; an axis that it lacks has length one there and must be
    in `start`, or is filled.

    Raises:
        AxisError: if `update` has an axis that `array` lacks.
    """
    starts: list[Any] = [0] * len(array.axes)
    for selector, first in start.items():
        starts[find(array.axes, selector, array)] = first.scalar() if isinstance(first, NamedArray) else first
    cut = {names_of(selector)[0] for selector in start}
    own = {axis.name: axis for axis in update.axes}
    for name in own:
        find(array.axes, name, array)
    target = tuple(own.get(axis.name, axis.resize(1) if axis.name in cut else axis) for axis in array.axes)
    raw = jnp.broadcast_to(aligned(update, target), [axis.size for axis in target]).astype(array.dtype)
    for first, axis, part in zip(starts, array.axes, target, strict=True):
        if isinstance(first, int | np.integer) and not 0 <= first <= axis.size - part.size:
            raise errors.slice_out_of_range(axis.name, int(first), part.size, array)
    return wrap(lax.dynamic_update_slice(array.array, raw, starts), array.axes)


def take(array: NamedArray, axis: AxisSelector, index: Any, *, mode: str | None = None) -> NamedArray:
    """The elements along the axis at the given positions.

    Args:
        array: a NamedArray.
        axis: the axis to look up in.
        index: an integer, an integer array, or a NamedArray, whose axes stand where `axis` stood. Axes that it shares
            with the array are walked together.
        mode: how positions out of range are treated. None as in `jnp`: negative ones count from the end, and those
            beyond give NaN (or the smallest integer). "promise_in_bounds" is the cheapest, one gather: the caller
            answers for `0 <= index < size`.

    Raises:
        AxisError: if the array lacks the axis.
        IndexError: for an integer that is out of range.
    """
    position = find(array.axes, axis, array)
    if isinstance(index, int | np.integer) and not isinstance(index, bool):
        return _element(array, array.axes[position].name, int(index))
    return _gathered(array, {array.axes[position].name: _index_array(index, array.axes[position])}, mode)


def _index_array(chosen: Any, axis: Axis) -> NamedArray:
    """The index as a NamedArray of integers; an unnamed vector gets the name of the axis that it indexes."""
    if not isinstance(chosen, NamedArray):
        raw = jnp.asarray(chosen)
        if raw.ndim > 1:
            raise errors.bad_index(chosen)
        chosen = NamedArray(raw, (axis.resize(raw.shape[0]),) if raw.ndim else ())
    if not jnp.issubdtype(chosen.dtype, jnp.integer):
        raise errors.bad_index(chosen)
    return chosen


def _gathered(array: NamedArray, gathers: Mapping[str, NamedArray], mode: str | None = None) -> NamedArray:
    """One gather over the axes that `gathers` names.

    The order of the result is the one that indexing gives: the index axes stand where the indexed axes stood, or in
    front if these are apart.
    """
    index_axes = union_axes_of(list(gathers.values()))
    index_names = {axis.name for axis in index_axes}
    kept = [axis for axis in array.axes if axis.name not in gathers]
    union_axes_of([*gathers.values(), unchecked(array.array, tuple(kept))])  # one size for each name

    lookup: list[Any] = []
    for axis in array.axes:
        if axis.name in gathers:
            lookup.append(aligned(gathers[axis.name], index_axes))
        elif axis.name in index_names:  # shared: walked together with the index
            lookup.append(aligned(wrap(jnp.arange(axis.size), (axis,)), index_axes))
        else:
            lookup.append(_slice(None))
    walked = [position for position, part in enumerate(lookup) if not isinstance(part, _slice)]
    together = walked == list(range(walked[0], walked[-1] + 1))
    place = walked[0] if together else 0
    free = [axis for axis in kept if axis.name not in index_names]
    axes = (*free[:place], *index_axes, *free[place:])
    found = jnp.asarray(array.array).at[tuple(lookup)]
    return wrap(found.get(mode=mode or "fill", wrap_negative_indices=mode != "promise_in_bounds"), axes)


class At:
    """`x.at["batch", 0]`: what to do with the elements of an index. Each method gives a new array."""

    def __init__(self, array: NamedArray, selection: Mapping[Any, Any] | None = None):
        self._array = array
        self._selection = selection

    def __getitem__(self, key: Any) -> At:
        return At(self._array, selection_of(key))

    def get(self) -> NamedArray:
        """The elements."""
        return index(self._array, self._chosen())

    def set(self, value: NamedOrNumeric) -> NamedArray:
        """The array with `value` there."""
        return self._updated("set", value)

    def add(self, value: NamedOrNumeric) -> NamedArray:
        """The array with `value` added there; an element that is there twice is added twice."""
        return self._updated("add", value)

    def multiply(self, value: NamedOrNumeric) -> NamedArray:
        """The array multiplied by `value` there."""
        return self._updated("multiply", value)

    mul = multiply

    def divide(self, value: NamedOrNumeric) -> NamedArray:
        """The array divided by `value` there."""
        return self._updated("divide", value)

    def power(self, value: NamedOrNumeric) -> NamedArray:
        """The array raised to the power of `value` there."""
        return self._updated("power", value)

    def min(self, value: NamedOrNumeric) -> NamedArray:
        """The array with the smaller of itself and `value` there."""
        return self._updated("min", value)

    def max(self, value: NamedOrNumeric) -> NamedArray:
        """The array with the larger of itself and `value` there."""
        return self._updated("max", value)

    def apply(self, function: Any) -> NamedArray:
        """The array with `function`, of a raw array, applied there."""
        return self.set(wrap(function(self.get().array), self.get().axes))

    def _chosen(self) -> Mapping[Any, Any]:
        if self._selection is None:
            raise errors.bad_index(())
        return self._selection

    def _updated(self, method: str, value: NamedOrNumeric) -> NamedArray:
        """Indexes an array of flat positions the same way, so that reading and writing cannot differ."""
        array = self._array
        count = jnp.arange(array.size).reshape([axis.size for axis in array.axes])
        places = index(wrap(count, array.axes), self._chosen())
        if isinstance(value, NamedArray):
            value = broadcast_to(value, places.axes).array
        flat = jnp.ravel(jnp.asarray(array.array)).at[places.array]
        return wrap(getattr(flat, method)(value).reshape(count.shape), array.axes)


def at(array: NamedArray) -> At:
    """`x.at["batch", 0].set(1.0)`: updates by name, each of which gives a new array."""
    return At(array)
