"""Reading elements by name: `x["batch", 3]`, `x[{"batch": 0, "position": slice(1, 5)}]`, `take`, `slice`.

Integers and slices with known ends become static slices, `dslice`s and traced integers dynamic slices, integer arrays
one gather, and masks the integer array of the places that they mark. The axes of an index array stand in the result
where the indexed axis stood; several index arrays are broadcast against each other by name. An axis that an index array
shares with the array itself is walked together with it.

What is known to be out of range is an error. What is found out of range when it runs reads as NaN (or the smallest
integer), and beyond the end of a `dslice` as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from haliax import errors
from haliax._compat import ConcreteArray
from haliax.axis import Axis, AxisSelector, find, names_of
from haliax.core.array import NamedArray, wrap
from haliax.core.dslice import dblock as dblock
from haliax.core.dslice import ds as ds
from haliax.core.dslice import dslice, is_pallas_dslice
from haliax.core.explicit import on_any_mesh
from haliax.ops import eager
from haliax.ops.gathering import gathered
from haliax.ops.shape import transposed

_slice = slice


@on_any_mesh
def index(array: NamedArray, slices: Mapping[Any, Any]) -> NamedArray:
    """The elements that `slices` names: from axes to integers, slices, `dslice`s, integer arrays or masks.

    Args:
        array: a NamedArray.
        slices: from axes to integers, slices, `dslice`s, integer arrays or masks.

    Raises:
        AxisError: for an axis that the array lacks.
        NamedIndexError: for an integer that is out of range.

    >>> x = hax.arange(hax.make_axes(batch=2, embed=3))
    >>> x["batch", 1, "embed", 0:2]
    i32[embed=2] [3 4]
    >>> x["embed", hax.named([2, 0], "chosen")]
    i32[batch=2, chosen=2] [[2 0] [5 3]]
    """
    places: dict[str, Any] = {}
    if len(slices) > 1:
        check_indexed_once(list(slices))
    for selector, chosen in slices.items():
        name = array.axes[find(array.axes, selector, array)].name
        chosen = normalized(array, name, chosen)
        if isinstance(chosen, _slice | dslice):
            array = _cut(array, name, chosen)
        else:
            places[name] = chosen
    if any(isinstance(place, NamedArray) and place.axes for place in places.values()):
        return gathered(array, places, {"mode": "fill"})
    for name, place in places.items():
        array = _element(array, name, place)
    return array


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
        raise errors.bad_subscript(key)
    if len(key) > 2:
        check_indexed_once(key[::2])
    return dict(zip(key[::2], key[1::2], strict=True))


def check_indexed_once(selectors: Sequence[AxisSelector]) -> None:
    """Raises AxisError if two selectors, names or axes, mean the same axis."""
    names = [selector if isinstance(selector, str) else selector.name for selector in selectors]
    if len(set(names)) < len(names):
        raise errors.indexed_twice(next(name for name in names if names.count(name) > 1))


@on_any_mesh
def take(array: NamedArray, axis: AxisSelector, index: Any, *, mode: str | None = None) -> NamedArray:
    """The elements along the axis at the given positions.

    Args:
        array: a NamedArray.
        axis: the axis to look up in.
        index: an integer, an integer array, or a NamedArray, whose axes stand where `axis` stood. Axes that it shares
            with the array are walked together; the others then go first.
        mode: how positions out of range are treated. None as in `jnp`: negative ones count from the end, and those
            beyond give NaN (or the smallest integer). "promise_in_bounds" is the cheapest, one gather: the caller
            answers for `0 <= index < size`.

    Raises:
        AxisError: if the array lacks the axis.
        NamedIndexError: for an integer that is out of range.

    >>> table = hax.named(jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), ("vocab", "embed"))
    >>> table.take("vocab", hax.named([2, 0], "position"))
    f32[position=2, embed=2] [[4. 5.] [0. 1.]]
    """
    name = array.axes[find(array.axes, axis, array)].name
    place = normalized(array, name, index, is_strict=mode is None)
    if isinstance(place, _slice | dslice):
        raise errors.bad_index(name, index)
    if mode is None and (isinstance(place, int) or not place.axes):
        return _element(array, name, place)
    found = gathered(array, {name: place}, {"mode": mode or "fill"})
    others = tuple(own for own in array.axes if own.name != name)
    if isinstance(place, int) or not any(own in others for own in place.axes):
        return found
    return transposed(found, (*[own for own in place.axes if own not in others], *others))


@on_any_mesh
def slice(  # noqa: A001
    array: NamedArray,
    axis: AxisSelector | Mapping[Any, Any] | None = None,
    new_axis: AxisSelector | Mapping[Any, Any] | None = None,
    start: Any = 0,
    length: int | np.integer | Mapping[Any, Any] | Axis | None = None,
) -> NamedArray:
    """Part of the array along one axis, or along several given as mappings.

    `slice(x, "position", start=2, length=4)`, `slice(x, Position, Position.resize(4), start)`,
    `slice(x, {"position": 2, "embed": 0}, {"position": 4, "embed": 8})`, also written
    `slice(x, start={…}, length={…})`.

    Args:
        array: a NamedArray.
        axis: the axis to cut, or a mapping from axes to starts.
        new_axis: what the axis is afterwards: an `Axis`, or a name if `length` is given. By default its name stays.
            After a mapping from axes to starts: the mapping from axes to lengths.
        start: the first element; negative from the end. It may be traced (then it is clamped so that the slice fits).
        length: the number of elements, or the axis that the result has there.

    Raises:
        AxisError: if the array lacks the axis.
        NamedIndexError: if the slice is known to be out of range.

    >>> x = hax.arange(hax.Axis("position", 6))
    >>> x.slice("position", start=2, length=3)
    i32[position=3] [2 3 4]
    """
    cuts: list[tuple[Any, Any, Any, Any]] = [(axis, start, new_axis, length)]
    starts, lengths = (axis, length or new_axis) if isinstance(axis, Mapping) else (start, length)
    if isinstance(starts, Mapping):
        given = lengths if isinstance(lengths, Mapping) else {}
        sizes = {names_of(selector)[0]: size for selector, size in given.items()}
        cuts = [(selector, first, None, sizes.get(names_of(selector)[0])) for selector, first in starts.items()]
    windows = {}
    for selector, first, new, size in cuts:
        position = find(array.axes, selector, array)
        windows[position] = (first, _window_axis(array, array.axes[position], new, size))
    return _windows(array, windows)


def _window_axis(array: NamedArray, old: Axis, new: Any, length: Any) -> Axis:
    if isinstance(new, Axis):
        return new
    if isinstance(length, Axis):
        return length.alias(new) if new else length
    if length is None:
        raise errors.slice_without_length(old.name, array)
    return Axis(new or old.name, int(length))


def _windows(array: NamedArray, windows: Mapping[int, tuple[Any, Axis]]) -> NamedArray:
    """The array cut in one slice, static if all starts are known: by position, the start and the axis afterwards."""
    axes, starts = list(array.axes), [0] * len(array.axes)
    for position, (first, new) in windows.items():
        axes[position] = new
        starts[position] = start_of(array, array.axes[position], first, new.size)
    sizes = [axis.size for axis in axes]
    if all(isinstance(first, int) for first in starts):
        ends = [first + size for first, size in zip(starts, sizes, strict=True)]
        return wrap(lax.slice(jnp.asarray(array.array), starts, ends), tuple(axes))
    return wrap(lax.dynamic_slice(array.array, starts, sizes), tuple(axes))


def start_of(array: NamedArray, axis: Axis, start: Any, length: int) -> Any:
    """Where a slice of this length starts: an integer from 0 on if it is known, which is then checked."""
    if isinstance(start, NamedArray):
        start = start.scalar()
    if not isinstance(start, int | np.integer):
        if length > axis.size:
            raise errors.slice_out_of_range(axis.name, 0, length, array)
        return start
    first = int(start) + axis.size if start < 0 else int(start)
    if not 0 <= first <= axis.size - length:
        raise errors.slice_out_of_range(axis.name, int(start), length, array)
    return first


def normalized(array: NamedArray, name: str, chosen: Any, is_strict: bool = True) -> Any:
    """The index as an int, a slice of ints, a `dslice`, or a NamedArray of integers.

    A mask becomes the places that it marks. An unnamed vector gets the name of the axis that it indexes.

    Args:
        array: the array that is indexed.
        name: the axis that is indexed.
        chosen: the index as it was given.
        is_strict: whether an integer that is out of range is an error.
    """
    axis = array.axes[find(array.axes, name)]
    if isinstance(chosen, int | np.integer) and not isinstance(chosen, bool | np.bool_):
        number = int(chosen)
        if is_strict and not -axis.size <= number < axis.size:
            raise errors.index_out_of_range(name, number, array)
        return number
    if isinstance(chosen, _slice):
        return _slice(*(_end(bound, name) for bound in (chosen.start, chosen.stop, chosen.step)))
    if is_pallas_dslice(chosen):
        cut: Any = chosen
        places = cut.start + jnp.arange(cut.size) * cut.stride
        return dslice(cut.start, cut.size) if cut.stride == 1 else wrap(places, (axis.resize(cut.size),))
    if isinstance(chosen, dslice):
        return chosen
    return _places(array, axis, chosen, is_strict)


def _end(bound: Any, name: str) -> int | None:
    if isinstance(bound, NamedArray):
        bound = bound.scalar()
    if isinstance(bound, Tracer):
        raise errors.traced_slice_end(name)
    return None if bound is None else bound.__index__()


def _places(array: NamedArray, axis: Axis, chosen: Any, is_strict: bool) -> NamedArray:
    raw = chosen.array if isinstance(chosen, NamedArray) else chosen
    if isinstance(raw, list | tuple | range):
        raw = np.asarray(raw)
    if isinstance(raw, bool) or not hasattr(raw, "dtype"):
        raise errors.bad_index(axis.name, chosen)
    axes = chosen.axes if isinstance(chosen, NamedArray) else (axis.resize(raw.shape[0]),) if raw.ndim == 1 else ()
    if raw.dtype == np.bool_:
        return _marked(axis, chosen, raw, axes)
    if raw.ndim != len(axes) or not jnp.issubdtype(raw.dtype, jnp.integer):
        raise errors.bad_index(axis.name, chosen)
    if is_strict and isinstance(raw, np.ndarray):
        for number in raw[(raw < -axis.size) | (raw >= axis.size)].flat:
            raise errors.index_out_of_range(axis.name, int(number), array)
    return wrap(raw if type(raw) is ConcreteArray else jnp.asarray(raw), axes)


def _marked(axis: Axis, chosen: Any, mask: Any, axes: tuple[Axis, ...]) -> NamedArray:
    if mask.shape != (axis.size,):
        raise errors.bad_mask(axis.name, axis.size, chosen)
    if isinstance(mask, Tracer):
        raise errors.traced_mask(axis.name, chosen)
    (places,) = np.nonzero(np.asarray(mask))
    return wrap(jnp.asarray(places), (axes[0].resize(len(places)),))


def _cut(array: NamedArray, name: str, chosen: Any) -> NamedArray:
    position = find(array.axes, name, array)
    axis = array.axes[position]
    if isinstance(chosen, dslice):
        cut, length = _read_beyond(array, position, chosen), chosen.size
    else:
        length = len(range(*chosen.indices(axis.size)))
        if length == axis.size and chosen.step in (None, 1):
            return array
        if chosen.step in (None, 1):
            cut = eager.window(array.array, chosen.indices(axis.size)[0], length, position)
        else:
            cut = jnp.asarray(array.array)[(_slice(None),) * position + (chosen,)]
    return wrap(cut, (*array.axes[:position], axis.resize(length), *array.axes[position + 1 :]))


def _read_beyond(array: NamedArray, position: int, chosen: dslice) -> Any:
    """The raw array that the dslice reads: a slice, followed by zeros where it goes beyond the end."""
    axis, raw, start = array.axes[position], jnp.asarray(array.array), chosen.start
    inside = min(chosen.size, axis.size)
    if isinstance(start, int | np.integer):
        if start < -axis.size:
            raise errors.slice_out_of_range(axis.name, int(start), chosen.size, array)
        first = min(int(start) + axis.size if start < 0 else int(start), axis.size)
        last = min(first + chosen.size, axis.size)
        return _with_zeros(lax.slice_in_dim(raw, first, last, axis=position), position, chosen.size - (last - first))
    start = jnp.where(start < 0, start + axis.size, start)
    first = jnp.clip(start, 0, axis.size - inside)
    window = lax.dynamic_slice_in_dim(raw, first, inside, axis=position)
    # The window ends with the axis; what it has too much in front is pushed out by zeros from behind.
    return lax.dynamic_slice_in_dim(
        _with_zeros(window, position, chosen.size), start - first, chosen.size, axis=position
    )


def _with_zeros(raw: Any, position: int, count: int) -> Any:
    widths = [(0, count if dimension == position else 0, 0) for dimension in range(raw.ndim)]
    return lax.pad(raw, jnp.zeros((), raw.dtype), widths) if count else raw


def _element(array: NamedArray, name: str, place: int | NamedArray) -> NamedArray:
    """The array at one place of an axis: a slice, static if the place is known."""
    position = find(array.axes, name, array)
    size, raw = array.axes[position].size, array.array
    axes = array.axes[:position] + array.axes[position + 1 :]
    if isinstance(place, int):
        return wrap(eager.element(raw, place % size, position), axes)
    if size == 0:
        raise errors.index_out_of_range(name, 0, array)
    number = place.array if place.dtype == jnp.int64 else place.array.astype(jnp.int32)
    found = lax.dynamic_index_in_dim(raw, number, position, keepdims=False)
    nothing = _out_of_range_value(raw.dtype)
    if nothing is not None:
        found = jnp.where((number >= -size) & (number < size), found, jnp.asarray(nothing, raw.dtype))
    return wrap(found, axes)


def _out_of_range_value(dtype: Any) -> Any:
    """What `jnp` fills in for elements that are out of range; None for random keys, which have no such value."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.nan
    if jnp.issubdtype(dtype, jnp.integer):
        limits = jnp.iinfo(dtype)
        return limits.min if limits.min < 0 else limits.max
    return True if dtype == np.bool_ else None
