"""One gather of the elements that several indices name, and how `jnp` says it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax.numpy as jnp

from haliax.axis import Axis, names_of
from haliax.core.array import NamedArray, unchecked, wrap
from haliax.core.explicit import on_any_mesh
from haliax.ops import eager
from haliax.ops.align import aligned, all_axes, union_axes_of

Lookup = tuple[Any, ...]
"""What `jnp` indexes with: for each dimension an integer, a slice with known ends, or an integer array."""


@on_any_mesh
def gathered(array: NamedArray, places: Mapping[str, Any], options: Mapping[str, Any]) -> NamedArray:
    """One gather of the places, with the options of `jnp.ndarray.at[…].get`."""
    parts, arrays, axes = _gather_along_one(array, places) or _gather_along_any(array, places)
    is_promised = options.get("mode") == "promise_in_bounds"
    settings = (*options.items(), ("wrap_negative_indices", not is_promised))
    return wrap(_gather(array.array, parts, settings, *arrays), axes)


Parts = tuple[Any, ...]
"""A `Lookup` with None for each index array and the bounds of each slice, so that it has a hash."""


def _gather_along_one(array: NamedArray, places: Mapping[str, Any]) -> tuple[Parts, list[Any], tuple[Axis, ...]] | None:
    """The commonest case, one index array whose axes the array lacks; None for any other."""
    if len(places) != 1:
        return None
    ((name, place),) = places.items()
    planned = _planned(array.axes, name, place.axes) if isinstance(place, NamedArray) else None
    return None if planned is None else (planned[0], [place.array], planned[1])


@lru_cache(maxsize=4096)
def _planned(axes: tuple[Axis, ...], name: str, by: tuple[Axis, ...]) -> tuple[Parts, tuple[Axis, ...]] | None:
    names = names_of(axes)
    position = names.index(name)
    before, after = axes[:position], axes[position + 1 :]
    if set(names_of(by)) & set(names_of((*before, *after))):
        return None
    everything = (None, None, None)
    return tuple([None if own == name else everything for own in names]), (*before, *by, *after)


def _gather_along_any(array: NamedArray, places: Mapping[str, Any]) -> tuple[Parts, list[Any], tuple[Axis, ...]]:
    lookup, axes = lookup_of(array, places)
    arrays = [part for part in lookup if not isinstance(part, slice | int)]
    return tuple([_fixed(part) if isinstance(part, slice | int) else None for part in lookup]), arrays, axes


def _fixed(part: Any) -> Any:
    """A part of a lookup that is not an array, as a value with a hash."""
    return (part.start, part.stop, part.step) if isinstance(part, slice) else part


def _read(raw: Any, parts: tuple[Any, ...], settings: tuple[tuple[str, Any], ...], *arrays: Any) -> Any:
    rest = iter(arrays)
    lookup = [next(rest) if part is None else slice(*part) if isinstance(part, tuple) else part for part in parts]
    return jnp.asarray(raw).at[tuple(lookup)].get(**dict(settings))


_gather = eager.quick(_read, 1, 2)


def lookup_of(array: NamedArray, places: Mapping[str, Any]) -> tuple[Lookup, tuple[Axis, ...]]:
    """How `jnp` indexes the raw array at the places, and the axes of the result.

    Index arrays are broadcast as by `haliax.broadcast_arrays`. The order is the one that `jnp` gives: the index axes
    stand where the indexed axes stood, or in front if these,
    those with one integer counted among them, are apart.
    """
    arrays = {name: place for name, place in places.items() if isinstance(place, NamedArray)}
    index_axes = all_axes([*arrays.values()])
    index_names = {axis.name for axis in index_axes}
    kept = [axis for axis in array.axes if axis.name not in places]
    union_axes_of([*arrays.values(), unchecked(array.array, tuple(kept))])  # one size for each name

    lookup: list[Any] = []
    free: list[tuple[int, Axis]] = []
    for position, axis in enumerate(array.axes):
        place = places.get(axis.name, slice(None))
        if isinstance(place, NamedArray):
            place = aligned(place, index_axes)
        elif axis.name in index_names and axis.name not in places:  # shared: walked together with the index
            place = aligned(wrap(jnp.arange(axis.size), (axis,)), index_axes)
        elif isinstance(place, slice):
            free.append((position, axis.resize(len(range(*place.indices(axis.size))))))
        lookup.append(place)
    walked = [position for position, place in enumerate(lookup) if not isinstance(place, slice)]
    together = not walked or walked == list(range(walked[0], walked[-1] + 1))
    front = [axis for position, axis in free if together and walked and position < walked[0]]
    return tuple(lookup), (*front, *index_axes, *[axis for _, axis in free[len(front) :]])
