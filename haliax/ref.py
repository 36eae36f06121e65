"""Mutable arrays with named axes: `jax.new_ref`, by name.

>>> cache = hax.new_ref(hax.zeros({"position": 4, "embed": 2}))
>>> cache["position", 1] = hax.ones({"embed": 2})
>>> cache.slice({"position": hax.ds(0, 2)}).value()
f32[position=2, embed=2] [[0. 0.] [1. 1.]]

A `NamedRef` is a JAX reference, the axes of its array, and for each of them the part that is in view. Reading and
writing name elements as everywhere (see `haliax.ops.indexing`); `slice` narrows the view and copies nothing.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax import ref as jax_ref

from haliax import errors
from haliax.axis import Axis, AxisSelector, find, names_of
from haliax.core import printing
from haliax.core.array import NamedArray, unchecked, wrap
from haliax.core.dslice import dslice
from haliax.ops.align import aligned
from haliax.ops.gathering import lookup_of
from haliax.ops.indexing import index, normalized, selection_of, start_of

_slice = slice


@dataclass(frozen=True)
class Window:
    """The elements `start`, `start + step`, … of a dimension, `size` in all. The start may be traced."""

    start: Any
    step: int
    size: int

    def at(self, place: Any) -> Any:
        """What of the dimension is at a place (or is a window) of this window."""
        if isinstance(place, Window):
            return Window(self.start + self.step * place.start, self.step * place.step, place.size)
        if isinstance(place, NamedArray):
            counted = jnp.where(place.array < 0, place.array + self.size, place.array)
            return wrap(self.start + self.step * counted, place.axes)
        taken = self.start + self.step * (place % self.size)
        return taken if isinstance(taken, int) else wrap(taken, ())


jax.tree_util.register_dataclass(Window, data_fields=["start"], meta_fields=["step", "size"])


class NamedRef:
    """A mutable array with named axes, or a view of a part of one. Made by `new_ref`.

    As a pytree it has the JAX reference as a leaf, so it can be passed to a compiled function, which may write to it.
    """

    def __init__(self, _ref: Any, _axes: tuple[Axis, ...], _prefix: tuple[Any, ...]):
        self._ref = _ref
        self._axes = _axes
        self._prefix = _prefix

    @cached_property
    def _lookup(self) -> tuple[tuple[Any, ...], tuple[Axis, ...]]:
        """How JAX indexes the reference to get what is in view, and the axes of that."""
        places: dict[str, Any] = {}
        dynamic: dict[int, Window] = {}
        for position, (axis, part) in enumerate(zip(self._axes, self._prefix, strict=True)):
            places[axis.name] = part
            if isinstance(part, Window) and isinstance(part.start, int) and part.step > 0:
                places[axis.name] = _slice(part.start, part.start + (part.size - 1) * part.step + 1, part.step)
            elif isinstance(part, Window) and part.step > 0:
                dynamic[position] = part
                places[axis.name] = _slice(0, part.size)
            elif isinstance(part, Window):
                counted = part.start + part.step * jnp.arange(part.size)
                places[axis.name] = wrap(counted, (axis.resize(part.size),))
        lookup, axes = lookup_of(unchecked(None, self._axes), places)
        if not dynamic:
            return lookup, axes
        from jax.experimental import pallas  # late: it takes long to import, and only traced slices need it

        windows = {position: pallas.ds(part.start, part.size, part.step) for position, part in dynamic.items()}
        return tuple(windows.get(position, place) for position, place in enumerate(lookup)), axes

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of what is in view."""
        return self._lookup[1]

    @property
    def shape(self) -> dict[str, int]:
        """The sizes by name of what is in view."""
        return {axis.name: axis.size for axis in self.axes}

    named_shape = shape

    @property
    def dtype(self) -> Any:
        """The dtype of the array."""
        return self._ref.dtype

    @property
    def ndim(self) -> int:
        """How many axes are in view."""
        return len(self.axes)

    def resolve_axis(self, axis: AxisSelector) -> Axis:
        """The axis of this name that is in view.

        Raises:
            AxisError: if there is none, or it has another size.
        """
        return self.axes[find(self.axes, axis, self)]

    def slice(self, selector: Mapping[Any, Any]) -> NamedRef:
        """A view of a part, to which reading and writing then refer: `ref.slice({"layers": 3})`.

        Args:
            selector: from axes in view to integers, slices, `dslice`s, integer arrays or masks.

        Raises:
            AxisError: for an axis that is not in view.
            NamedIndexError: for an integer that is out of range.
        """
        seen = unchecked(None, self.axes)
        prefix = list(self._prefix)
        for selected, chosen in selector.items():
            name = names_of(selected)[0]
            find(self.axes, selected, self)
            place = _place(seen, name, chosen)
            for position, (axis, part) in enumerate(zip(self._axes, prefix, strict=True)):
                if isinstance(part, NamedArray) and part.has_axis(name):
                    prefix[position] = index(part, {name: _as_index(place, name)})
                elif isinstance(part, Window) and axis.name == name:
                    prefix[position] = part.at(place)
        return NamedRef(self._ref, self._axes, tuple(prefix))

    def unsliced(self) -> NamedRef:
        """The whole array in view."""
        return _whole(self._ref, self._axes)

    def value(self) -> NamedArray:
        """What is in view now."""
        lookup, axes = self._lookup
        return wrap(self._ref[lookup], axes)

    def __getitem__(self, key: Any) -> NamedArray:
        return self._view(key).value()

    def __setitem__(self, key: Any, value: Any) -> None:
        view = self._view(key)
        view._ref[view._lookup[0]] = view._filled(value)

    def unsafe_buffer_pointer(self) -> int:
        """The address of the array in the memory of its device."""
        return self._ref.unsafe_buffer_pointer()

    def _view(self, key: Any) -> NamedRef:
        if key is Ellipsis or key is None or key == ():
            return self
        return self.slice(selection_of(key))

    def _filled(self, value: Any) -> Any:
        """The value as a raw array of the shape and dtype in view, broadcast by name."""
        raw = aligned(value, self.axes) if isinstance(value, NamedArray) else value
        shape = [axis.size for axis in self.axes]
        return jnp.broadcast_to(jnp.asarray(raw), shape).astype(self.dtype)

    def __repr__(self) -> str:
        return f"NamedRef({printing.shape_text(self)})"


def _place(seen: NamedArray, name: str, chosen: Any) -> Any:
    """The index as an integer from 0 on, a window, or a NamedArray of integers."""
    axis = seen.axes[find(seen.axes, name)]
    place = normalized(seen, name, chosen)
    if isinstance(place, _slice):
        numbers = range(*place.indices(axis.size))
        return Window(numbers.start, numbers.step, len(numbers))
    if isinstance(place, dslice):
        return Window(start_of(seen, axis, place.start, place.size), 1, place.size)
    return place % axis.size if isinstance(place, int) else place


def _as_index(place: Any, name: str) -> Any:
    """A place as `index` takes it: a window by its numbers."""
    if not isinstance(place, Window):
        return place
    return wrap(place.start + place.step * jnp.arange(place.size), (Axis(name, place.size),))


def _whole(ref: Any, axes: tuple[Axis, ...]) -> NamedRef:
    return NamedRef(ref, axes, tuple(Window(0, 1, axis.size) for axis in axes))


def _flatten(ref: NamedRef) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    known = tuple(part if _is_known(part) else None for part in ref._prefix)
    return (ref._ref, tuple(part for part in ref._prefix if not _is_known(part))), (ref._axes, known)


def _is_known(part: Any) -> bool:
    return isinstance(part.start if isinstance(part, Window) else part, int)


def _unflatten(structure: Any, children: Any) -> NamedRef:
    axes, known = structure
    ref, traced = children
    parts = iter(traced)
    return NamedRef(ref, axes, tuple(next(parts) if part is None else part for part in known))


jax.tree_util.register_pytree_node(NamedRef, _flatten, _unflatten)


def new_ref(value: NamedArray) -> NamedRef:
    """A mutable array that holds a copy of the value.

    Raises:
        NamedTypeError: if the value is not a NamedArray.
    """
    if not isinstance(value, NamedArray):
        raise errors.not_named("new_ref", value)
    return _whole(jax.new_ref(value.array), value.axes)


def get(ref: NamedRef, idx: Any | types.EllipsisType = Ellipsis) -> NamedArray:
    """`ref[idx]`: the elements there now."""
    return ref[idx]


def swap(ref: NamedRef, idx: Any | types.EllipsisType, value: Any) -> NamedArray:
    """Writes `ref[idx] = value`, and gives what was there before."""
    view = ref._view(idx)
    lookup, axes = view._lookup
    return wrap(jax_ref.swap(view._ref, lookup, view._filled(value)), axes)


def freeze(ref: NamedRef) -> NamedArray:
    """What is in view, for the last time: the reference cannot be used any more."""
    contents = ref.value()
    jax_ref.freeze(ref._ref)
    return contents
