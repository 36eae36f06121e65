"""Questions about the axes of a named array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from haliax.axis import Axis, AxisSelection, AxisSelector, PartialShapeDict, ensure_tuple, find, resolved
from haliax.core.annotations import parse_spec
from haliax.core.array import NamedArray


@overload
def axis_indices(array: NamedArray, axis: AxisSelector) -> int | None: ...


@overload
def axis_indices(array: NamedArray, axis: Sequence[AxisSelector] | PartialShapeDict) -> tuple[int | None, ...]: ...


def axis_indices(array: NamedArray, axis: AxisSelection) -> Any:
    """The dimension number of an axis, or those of several; None for one that the array lacks.

    Args:
        array: a NamedArray.
        axis: one axis, or several.

    Raises:
        AxisError: for an axis that the array has with another size.
    """
    if not isinstance(axis, str | Axis):
        return tuple(axis_indices(array, selector) for selector in ensure_tuple(axis))
    name = axis if isinstance(axis, str) else axis.name
    return find(array.axes, axis, array) if any(own.name == name for own in array.axes) else None


@overload
def axis_size(array: NamedArray, axis: AxisSelector) -> int: ...


@overload
def axis_size(array: NamedArray, axis: Sequence[AxisSelector] | PartialShapeDict) -> tuple[int, ...]: ...


def axis_size(array: NamedArray, axis: AxisSelection) -> Any:
    """The size of the axis, or the sizes of several as a tuple.

    Args:
        array: a NamedArray.
        axis: one axis, or several.

    Raises:
        AxisError: for an axis that the array lacks, or has with another size.
    """
    if isinstance(axis, str | Axis):
        return array.axes[find(array.axes, axis, array)].size
    return tuple(array.axes[find(array.axes, selector, array)].size for selector in ensure_tuple(axis))


def has_axis(array: NamedArray, axis: AxisSelection) -> bool:
    """Whether the array has the axis, or all of several.

    Args:
        array: a NamedArray.
        axis: one axis, or several; an `Axis` has to have its size too.
    """
    own = {axis.name: axis.size for axis in array.axes}
    return all(
        own.get(selector) is not None if isinstance(selector, str) else own.get(selector.name) == selector.size
        for selector in ensure_tuple(axis)
    )


@overload
def resolve_axis(array: NamedArray, axes: AxisSelector) -> Axis: ...


@overload
def resolve_axis(array: NamedArray, axes: PartialShapeDict) -> dict[str, int]: ...


@overload
def resolve_axis(array: NamedArray, axes: Sequence[AxisSelector]) -> tuple[Axis, ...]: ...


def resolve_axis(array: NamedArray, axes: AxisSelection) -> Any:
    """The axes of the array that the selection names.

    Returns:
        An `Axis` for one selector, a tuple of axes for a sequence, a mapping from names to sizes for a mapping.

    Raises:
        AxisError: for an axis that the array lacks, or has with another size.
    """
    return resolved(array.axes, axes, array)


def matches_axes(array: NamedArray, spec: Any) -> bool:
    """Whether the array has the axes, and the dtype, that an annotation asks for: `x.matches_axes("batch ... embed")`.

    Args:
        array: a NamedArray.
        spec: names in order, as a string or a sequence, in which `...` stands for any axes; a set of names for any
            order; or an annotation such as `NamedArray["batch embed"]` or `f32[NamedArray, "batch embed"]`.

    Raises:
        NamedTypeError: if the spec does not describe axes.

    >>> x = hax.zeros({"batch": 2, "position": 4, "embed": 3})
    >>> x.matches_axes("batch ... embed"), x.matches_axes({"embed", "batch"})
    (True, False)
    """
    return parse_spec(spec).match([axis.name for axis in array.axes], array.dtype)
