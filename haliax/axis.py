"""Axes: a name and a size, and the arithmetic of axis sets.

An axis may be given in many ways: as an `Axis`, by its name, as a sequence of either, or as a mapping from names to
sizes. The functions here bring them to one form (tuples of `Axis`) and do set arithmetic on them *by name*: two axes
of one name and different sizes are an error wherever they meet.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from haliax import errors


@dataclass(frozen=True, slots=True)
class Axis:
    """A named axis: `Axis("embed", 512)`."""

    name: str
    size: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise errors.bad_axis_name(self.name)
        size = self.size
        if type(size) is not int and hasattr(size, "__index__"):  # numpy integers; not symbolic dimensions
            object.__setattr__(self, "size", size.__index__())
        if isinstance(self.size, int) and self.size < 0:
            raise errors.negative_axis_size(self.name, self.size)

    def alias(self, new_name: str) -> Axis:
        """An axis of the same size called `new_name`."""
        return Axis(new_name, self.size)

    def resize(self, size: int) -> Axis:
        """An axis of the same name with another size."""
        return Axis(self.name, size)

    def __str__(self) -> str:
        return f"{self.name}({self.size})"


ShapeDict = Mapping[str, int]
PartialShapeDict = Mapping[str, int | None]
AxisSelector = Axis | str
AxisSelection = AxisSelector | Sequence[AxisSelector] | PartialShapeDict
AxisSpec = Axis | Sequence[Axis] | ShapeDict
PartialAxisSpec = AxisSelector | Sequence[AxisSelector | types.EllipsisType] | PartialShapeDict | types.EllipsisType


def make_axes(**sizes: int) -> tuple[Axis, ...]:
    """`make_axes(batch=4, embed=8)` is `(Axis("batch", 4), Axis("embed", 8))`."""
    return tuple(Axis(name, size) for name, size in sizes.items())


def ensure_tuple(value: Any) -> tuple[Any, ...]:
    """A tuple of what is given: itself if it is a sequence (a string is not), else a tuple of one."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return tuple(Axis(name, size) if size is not None else name for name, size in value.items())
    if isinstance(value, Sequence):
        return tuple(value)
    return (value,)


def axis_name(axis: AxisSelection) -> str | tuple[str, ...]:
    """The name of an axis, or the names of several."""
    if isinstance(axis, str):
        return axis
    if isinstance(axis, Axis):
        return axis.name
    return names_of(axis)


def names_of(selection: AxisSelection) -> tuple[str, ...]:
    """The names of a selection, in order."""
    if isinstance(selection, str):
        return (selection,)
    if isinstance(selection, Axis):
        return (selection.name,)
    if isinstance(selection, Mapping):
        return tuple(selection)
    return tuple(a if isinstance(a, str) else a.name for a in selection)


def axis_size(axis: AxisSpec) -> int | tuple[int, ...]:
    """The size of an axis, or the sizes of several."""
    if isinstance(axis, Axis):
        return axis.size
    return tuple(a.size for a in axes_of(axis))


def axes_of(spec: AxisSpec) -> tuple[Axis, ...]:
    """The axes of a spec, in order.

    Raises:
        AxisError: for a bare name (it has no size) or a name that is there twice.
    """
    if isinstance(spec, Axis):
        return (spec,)
    axes = ensure_tuple(spec)
    for axis in axes:
        if not isinstance(axis, Axis):
            raise errors.axis_without_size(axis)
    check_distinct(axes)
    return axes


axis_spec_to_tuple = axes_of


def check_distinct(axes: Sequence[Axis]) -> None:
    """Raises AxisError if a name is there twice."""
    if len({axis.name for axis in axes}) != len(axes):
        raise errors.duplicate_axis(axes)


def axis_spec_to_shape_dict(spec: AxisSpec) -> dict[str, int]:
    """The sizes by name."""
    return {axis.name: axis.size for axis in axes_of(spec)}


def to_jax_shape(spec: AxisSpec) -> tuple[int, ...]:
    """The sizes, in order: a shape for `jnp`."""
    return tuple(axis.size for axis in axes_of(spec))


def find(axes: Sequence[Axis], selector: AxisSelector, owner: Any = None) -> int:
    """The position of the selected axis in `axes`.

    Raises:
        AxisError: if it is not there, or there with another size. `owner` is the value that the message shows.
    """
    name = selector if isinstance(selector, str) else selector.name
    for position, axis in enumerate(axes):
        if axis.name == name:
            if selector is not axis and not isinstance(selector, str) and selector.size != axis.size:
                raise errors.wrong_axis_size(selector, axes if owner is None else owner)
            return position
    raise errors.axis_not_found(name, axes if owner is None else owner)


def index_where(predicate: Callable[[Any], bool], values: Sequence[Any], start: int = 0) -> int:
    """The position of the first value, from `start` on, for which the predicate holds.

    Raises:
        ValueError: if it holds for none.
    """
    for position in range(start, len(values)):
        if predicate(values[position]):
            return position
    raise ValueError("no element satisfies the predicate")


def is_axis_compatible(first: AxisSelector, second: AxisSelector) -> bool:
    """Whether the two can be the same axis: equal names and, where both have sizes, equal sizes."""
    if isinstance(first, str) or isinstance(second, str):
        return axis_name(first) == axis_name(second)
    return first == second


def selects_axis(selector: AxisSelection, selected: AxisSelection) -> bool:
    """Whether every axis of `selected` is chosen by `selector`, with the same size where both have sizes."""
    chosen = ensure_tuple(selector)
    return all(any(is_axis_compatible(axis, other) for other in chosen) for axis in ensure_tuple(selected))


def resolve_axis(axes: AxisSpec, selection: AxisSelection) -> Any:
    """The axes of `axes` that the selection names: one `Axis` for one selector, a tuple for several.

    Raises:
        AxisError: for an axis that is not there, or is there with another size.
    """
    available = axes_of(axes)
    if isinstance(selection, str | Axis):
        return available[find(available, selection)]
    return tuple(available[find(available, selector)] for selector in ensure_tuple(selection))


def union_axes(first: AxisSpec, second: AxisSpec) -> tuple[Axis, ...]:
    """The axes of the first, then those of the second that the first lacks.

    Raises:
        AxisError: for a name with two sizes.
    """
    left, right = axes_of(first), axes_of(second)
    sizes = {axis.name: axis for axis in left}
    for axis in right:
        if sizes.get(axis.name, axis).size != axis.size:
            raise errors.two_sizes(axis.name, sizes[axis.name].size, left, axis.size, right)
    return left + tuple(axis for axis in right if axis.name not in sizes)


def concat_axes(first: AxisSpec, second: AxisSpec) -> tuple[Axis, ...]:
    """The axes of both, in order.

    Raises:
        AxisError: if a name is in both.
    """
    joined = axes_of(first) + axes_of(second)
    check_distinct(joined)
    return joined


concat_axis_specs = concat_axes


def eliminate_axes(axes: AxisSpec, removed: AxisSelection) -> tuple[Axis, ...]:
    """`axes` without those that are named in `removed`.

    Raises:
        AxisError: for a name that is not there.
    """
    available = axes_of(axes)
    gone = {find(available, selector) for selector in ensure_tuple(removed)}
    return tuple(axis for position, axis in enumerate(available) if position not in gone)


def without_axes(axes: AxisSpec, removed: AxisSelection) -> tuple[Axis, ...]:
    """`axes` without those that are named in `removed`; a name that is not there is no error."""
    gone = set(names_of(removed))
    return tuple(axis for axis in axes_of(axes) if axis.name not in gone)


def intersect_axes(first: AxisSpec, second: AxisSelection) -> tuple[Axis, ...]:
    """The axes of the first that the second names too, in the order of the first.

    Raises:
        AxisError: for a name with two sizes.
    """
    available = axes_of(first)
    common = set(names_of(second))
    for selector in ensure_tuple(second):
        if isinstance(selector, Axis) and any(axis.name == selector.name for axis in available):
            find(available, selector)
    return tuple(axis for axis in available if axis.name in common)


def replace_axis(axes: AxisSpec, old: AxisSelector, new: AxisSpec) -> tuple[Axis, ...]:
    """`axes` with `old` replaced in place by the axis or axes of `new`.

    Raises:
        AxisError: if `old` is not there, or a name would be there twice.
    """
    available = axes_of(axes)
    position = find(available, old)
    replaced = available[:position] + axes_of(new) + available[position + 1 :]
    check_distinct(replaced)
    return replaced


def unsize_axes(spec: AxisSelection) -> Any:
    """The name or names of the axes, without sizes."""
    return axis_name(spec)


def replace_missing_with_ellipsis(selection: AxisSelection, axes: AxisSpec) -> tuple[Any, ...]:
    """The selection with each selector that `axes` lacks replaced by `...` (several in a row by one)."""
    present = set(names_of(axes))
    result: list[Any] = []
    for selector in ensure_tuple(selection):
        if names_of(selector)[0] in present:
            result.append(selector)
        elif not result or result[-1] is not Ellipsis:
            result.append(Ellipsis)
    return tuple(result)


def rearrange_for_partial_order(partial_order: PartialAxisSpec, axes: AxisSpec) -> tuple[Axis, ...]:
    """`axes` in the given order, where `...` stands for the axes that are not named, kept in their order.

    Without a `...`, unnamed axes go last. Names between two `...` are free to stand anywhere after the axis before.

    Raises:
        AxisError: for an axis that is not there or is named twice.
    """
    available = axes_of(axes)
    order: tuple[Any, ...] = (Ellipsis,) if partial_order is Ellipsis else ensure_tuple(partial_order)
    named = [available[find(available, item)] for item in order if item is not Ellipsis]
    check_distinct(named)
    rest = [axis for axis in available if axis not in named]
    result: list[Axis] = []
    for place, item in enumerate(order):
        if item is not Ellipsis:
            result.append(named.pop(0))
            continue
        if Ellipsis in order[place + 1 :]:  # only the axes that stand before the next ones that are named
            end = min((available.index(axis) for axis in named), default=len(available))
            taken = [axis for axis in rest if available.index(axis) < end]
        else:
            taken = rest
        result += taken
        rest = [axis for axis in rest if axis not in taken]
    return tuple(result + rest)
