"""Questions about the axes of a named array."""

from __future__ import annotations

from typing import Any

from haliax.array import NamedArray
from haliax.axis import Axis, AxisSelection, AxisSelector, PartialAxisSpec, ensure_tuple, find


def axis_indices(array: NamedArray, axis: AxisSelection) -> Any:
    """The dimension number of an axis, or those of several; None for one that the array lacks."""
    if isinstance(axis, str | Axis):
        names = [own.name for own in array.axes]
        name = axis if isinstance(axis, str) else axis.name
        return names.index(name) if name in names else None
    return tuple(axis_indices(array, selector) for selector in ensure_tuple(axis))


def axis_size(array: NamedArray, axis: AxisSelector) -> int:
    """The size of the axis.

    Raises:
        AxisError: if the array lacks it.
    """
    return array.axes[find(array.axes, axis, array)].size


def has_axis(array: NamedArray, axis: AxisSelection) -> bool:
    """Whether the array has the axis, or all of several."""
    own = {axis.name: axis.size for axis in array.axes}
    return all(
        own.get(selector) is not None if isinstance(selector, str) else own.get(selector.name) == selector.size
        for selector in ensure_tuple(axis)
    )


def resolve_axis(array: NamedArray, axis: AxisSelection) -> Any:
    """The axis or axes of the array that the selection names: an `Axis` for one selector, a tuple for several.

    Raises:
        AxisError: for an axis that the array lacks, or has with another size.
    """
    if isinstance(axis, str | Axis):
        return array.axes[find(array.axes, axis, array)]
    return tuple(array.axes[find(array.axes, selector, array)] for selector in ensure_tuple(axis))


def matches_axes(array: NamedArray, axes: PartialAxisSpec) -> bool:
    """Whether the array has exactly these axes, in any order; with `...` among them, at least these."""
    items: tuple[Any, ...] = ensure_tuple(axes)
    wanted = tuple(item for item in items if item is not Ellipsis)
    return has_axis(array, wanted) and (len(wanted) < len(items) or len(wanted) == len(array.axes))
