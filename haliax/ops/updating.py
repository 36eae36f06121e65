"""Writing elements by name: `x.at["batch", 0].set(1.0)` and `updated_slice`. Nothing changes; each gives a new array.

The index means what it means in `haliax.ops.indexing`, and becomes one scatter of `jnp`. An element that is known to be
out of range is an error, unless `mode` says what to do; one that is found out of range when it runs is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from haliax.axis import Axis, find, names_of
from haliax.core.array import NamedArray, unchecked, wrap
from haliax.core.dslice import dslice
from haliax.core.explicit import on_any_mesh
from haliax.ops.align import aligned, union_axes_of
from haliax.ops.gathering import gathered, lookup_of
from haliax.ops.indexing import check_indexed_once, index, normalized, selection_of, start_of
from haliax.typing import NamedOrNumeric, Subscript


class At:
    """`x.at`, to be indexed by name: `x.at["batch", 0]`, `x.at[{"batch": 0}]`."""

    def __init__(self, array: NamedArray):
        self._array = array

    def __getitem__(self, key: Subscript) -> Place:
        return Place(self._array, selection_of(key))


def at(array: NamedArray) -> At:
    """`x.at["batch", 0].set(1.0)`: updates by name, each of which gives a new array.

    >>> x = hax.zeros({"batch": 2, "embed": 3})
    >>> x.at["batch", 0].set(1.0)
    f32[batch=2, embed=3] [[1. 1. 1.] [0. 0. 0.]]
    >>> x.at["batch", 1, "embed", 1:3].add(hax.named([5.0, 6.0], "embed"))
    f32[batch=2, embed=3] [[0. 0. 0.] [0. 5. 6.]]
    """
    return At(array)


class Place:
    """`x.at["batch", 0]`: what to do with the elements there.

    Each method takes the options of `jnp.ndarray.at`: `mode` for what is out of range ("drop" or "fill", "clip",
    "promise_in_bounds"), `indices_are_sorted` and `unique_indices`. An update is broadcast by name. Where an index is
    there twice, its update is applied twice.
    """

    def __init__(self, array: NamedArray, selection: Mapping[Any, Any]):
        self._array = array
        self._selection = selection

    def get(self, *, fill_value: Any = None, **options: Any) -> NamedArray:
        """The elements; `fill_value` for those that are out of range."""
        if fill_value is None and not options:
            return index(self._array, self._selection)
        mode = options.pop("mode", None) or "fill"
        places = _places(self._array, self._selection, is_strict=False)
        return gathered(self._array, places, {"mode": mode, "fill_value": fill_value, **options})

    def set(self, update: NamedOrNumeric, **options: Any) -> NamedArray:
        """The array with `update` there."""
        return self._updated("set", update, options)

    def add(self, update: NamedOrNumeric, **options: Any) -> NamedArray:
        """The array with `update` added there."""
        return self._updated("add", update, options)

    def multiply(self, update: NamedOrNumeric, **options: Any) -> NamedArray:
        """The array multiplied by `update` there."""
        return self._updated("multiply", update, options)

    mul = multiply

    def divide(self, update: NamedOrNumeric, **options: Any) -> NamedArray:
        """The array divided by `update` there."""
        return self._updated("divide", update, options)

    def power(self, update: NamedOrNumeric, **options: Any) -> NamedArray:
        """The array raised to the power of `update` there."""
        return self._updated("power", update, options)

    def min(self, update: NamedOrNumeric, **options: Any) -> NamedArray:
        """The array with the smaller of itself and `update` there."""
        return self._updated("min", update, options)

    def max(self, update: NamedOrNumeric, **options: Any) -> NamedArray:
        """The array with the larger of itself and `update` there."""
        return self._updated("max", update, options)

    def apply(self, func: Callable[[Any], Any], **options: Any) -> NamedArray:
        """The array with `func`, an elementwise function of raw arrays, applied there."""
        return self._updated("apply", func, options)

    def _updated(self, method: str, update: Any, options: Mapping[str, Any]) -> NamedArray:
        return _scattered(self._array, self._selection, method, update, options)


@on_any_mesh
def _scattered(
    array: NamedArray, selection: Mapping[Any, Any], method: str, update: Any, options: Mapping[str, Any]
) -> NamedArray:
    lookup, axes = lookup_of(array, _places(array, selection, is_strict=options.get("mode") is None))
    if isinstance(update, NamedArray):
        union_axes_of([unchecked(None, axes), update])  # one size for each name
        update = aligned(update, axes)
    place = jnp.asarray(array.array).at[lookup]
    return wrap(getattr(place, method)(update, **options), array.axes)


def _places(array: NamedArray, selection: Mapping[Any, Any], is_strict: bool) -> dict[str, Any]:
    """For each axis an integer, a slice with known ends, or a NamedArray of integers."""
    places: dict[str, Any] = {}
    check_indexed_once(list(selection))
    for selector, chosen in selection.items():
        axis = array.axes[find(array.axes, selector, array)]
        place = normalized(array, axis.name, chosen, is_strict)
        if isinstance(place, dslice):
            inside = isinstance(place.start, int | np.integer) and 0 <= place.start <= axis.size - place.size
            place = place.to_slice() if inside else _counted(place.start, axis.resize(place.size))
        places[axis.name] = place
    return places


def _counted(start: Any, axis: Axis) -> NamedArray:
    """The numbers from `start` on along the axis; with the axes of `start`, if it has any, before it."""
    own, first = (start.axes, start.array) if isinstance(start, NamedArray) else ((), start)
    return wrap(jnp.expand_dims(first, -1) + jnp.arange(axis.size), (*own, axis))


@on_any_mesh
def updated_slice(array: NamedArray, start: Mapping[Any, Any], update: NamedArray) -> NamedArray:
    """The array with `update` in place of the part that begins at `start`.

    Args:
        array: a NamedArray.
        start: from axes to first elements, negative from the end. They may be traced (then they are clamped so that
            `update` fits), and may have axes of `array`: each element along those then has a start of its own.
        update: has the axes of `array`, shorter where it is cut. An axis that it lacks has length one if it is in
            `start`, else the update is the same all along it.

    Raises:
        AxisError: if `update` or a start has an axis that `array` lacks.
        NamedIndexError: if the update is known to go beyond the end.

    >>> x = hax.zeros({"position": 4})
    >>> x.updated_slice({"position": 1}, hax.ones({"position": 2}))
    f32[position=4] [0. 1. 1. 0.]
    """
    cut = {names_of(selector)[0] for selector in start}
    own = {axis.name: axis for axis in update.axes}
    for name in own:
        find(array.axes, name, array)
    target = tuple(own.get(axis.name, axis.resize(1) if axis.name in cut else axis) for axis in array.axes)
    raw = jnp.broadcast_to(aligned(update, target), [axis.size for axis in target]).astype(array.dtype)
    if any(isinstance(first, NamedArray) and first.axes for first in start.values()):
        return _updated_ragged(array, start, wrap(raw, target))
    firsts = {find(array.axes, selector, array): first for selector, first in start.items()}
    starts = [
        start_of(array, axis, firsts.get(position, 0), part.size)
        for position, (axis, part) in enumerate(zip(array.axes, target, strict=True))
    ]
    return wrap(lax.dynamic_update_slice(array.array, raw, starts), array.axes)


def _updated_ragged(array: NamedArray, start: Mapping[Any, Any], update: NamedArray) -> NamedArray:
    places = {}
    for selector, first in start.items():
        position = find(array.axes, selector, array)
        old, part = array.axes[position], update.axes[position]
        if not isinstance(first, NamedArray):
            first = wrap(jnp.asarray(first), ())
        for axis in first.axes:
            find(array.axes, axis, array)
        wrapped = jnp.where(first.array < 0, first.array + old.size, first.array)
        first = wrap(jnp.clip(wrapped, 0, old.size - part.size), first.axes)
        places[old.name] = _counted(first, part)
    return Place(array, places).set(update, mode="promise_in_bounds")
