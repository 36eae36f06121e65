"""Axes: a name and a size, and the arithmetic of axis sets.

An axis may be given in many ways: as an `Axis`, by its name, as a sequence of either, or as a mapping from names to
sizes. The functions here do set arithmetic on all of these *by name*: two axes of one name and different sizes are an
error wherever they meet. What is given as a mapping comes back as one; everything else comes back as a tuple.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jax.core import Tracer
from jax.export import is_symbolic_dim

from haliax import errors
from haliax.core.dslice import dblock as dblock
from haliax.core.dslice import ds as ds
from haliax.core.dslice import dslice as dslice
from haliax.core.order import arranged


@dataclass(frozen=True, slots=True)
class Axis:
    """A named axis: `Axis("embed", 512)`.

    >>> Embed = hax.Axis("embed", 512)
    >>> Embed.alias("key"), Embed.resize(64)
    (Axis(name='key', size=512), Axis(name='embed', size=64))
    """

    name: str
    """Any string; `"batch"`, `"embed"`."""
    size: int
    """The number of elements, from 0 on."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise errors.bad_axis_name(self.name)
        size = self.size
        if type(size) is not int and not is_symbolic_dim(size):
            object.__setattr__(self, "size", _whole(self.name, size))
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


def _whole(name: str, size: Any) -> int:
    """A size given as another kind of integer, such as one of numpy."""
    if isinstance(size, Tracer):
        raise errors.traced_axis_size(name)
    if isinstance(size, bool | np.bool_) or not hasattr(size, "__index__"):
        raise errors.bad_axis_size(name, size)
    try:
        return size.__index__()
    except TypeError:
        raise errors.bad_axis_size(name, size) from None


ShapeDict = Mapping[str, int]
"""Axes as a mapping from names to sizes: `{"batch": 4, "embed": 8}`."""
PartialShapeDict = Mapping[str, int | None]
"""A mapping from names to sizes, in which None leaves a size open."""
AxisSelector = Axis | str
"""One axis, by itself or by its name."""
AxisSelection = AxisSelector | Sequence[AxisSelector] | PartialShapeDict
"""Some axes of an array: one, several, or a mapping from names to sizes."""
AxisSpec = Axis | Sequence[Axis] | ShapeDict
"""Axes with their sizes, as the shape of a new array needs them."""
PartialAxisSpec = AxisSelector | Sequence[AxisSelector | types.EllipsisType] | PartialShapeDict | types.EllipsisType
"""An order of axes, in which `...` stands for those that are not named."""
Ax = TypeVar("Ax", Axis, str, AxisSelector)
AxisSet = tuple[AxisSelector, ...] | dict[str, int | None]
"""What a function of axis sets gives: a mapping for a mapping, else a tuple."""


def make_axes(**sizes: int) -> tuple[Axis, ...]:
    """`make_axes(batch=4, embed=8)` is `(Axis("batch", 4), Axis("embed", 8))`.

    >>> Batch, Embed = hax.make_axes(batch=4, embed=8)
    >>> Embed
    Axis(name='embed', size=8)
    """
    return tuple(Axis(name, size) for name, size in sizes.items())


def ensure_tuple(x: Any) -> tuple[Any, ...]:
    """A tuple of what is given: itself if it is a sequence (a string is not), else a tuple of one.

    A mapping from names to sizes becomes the axes that it describes, bare names where there is no size.
    """
    if isinstance(x, str):
        return (x,)
    if isinstance(x, Mapping):
        return tuple(Axis(name, size) if size is not None else name for name, size in x.items())
    if isinstance(x, Sequence):
        return tuple(x)
    return (x,)


def axis_name(ax: AxisSelection) -> str | tuple[str, ...]:
    """The name of an axis, or the names of several."""
    if isinstance(ax, str):
        return ax
    if isinstance(ax, Axis):
        return ax.name
    return names_of(ax)


def names_of(selection: AxisSelection) -> tuple[str, ...]:
    """The names of a selection, in order."""
    if isinstance(selection, str):
        return (selection,)
    if isinstance(selection, Axis):
        return (selection.name,)
    if isinstance(selection, Mapping):
        return tuple(selection)
    return tuple([a if isinstance(a, str) else a.name for a in selection])


def axis_size(ax: AxisSpec) -> int:
    """The size of an axis, or the product of the sizes of several.

    Raises:
        AxisError: for a bare name (it has no size).
    """
    return ax.size if isinstance(ax, Axis) else math.prod(a.size for a in axes_of(ax))


def axes_of(spec: AxisSelection) -> tuple[Axis, ...]:
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


def axis_spec_to_tuple(axis_spec: AxisSelection) -> tuple[AxisSelector, ...]:
    """The axes and names of a selection, in order; of a mapping an `Axis` where it has a size, else the name.

    Raises:
        NamedTypeError: for what is neither an axis nor a name.
    """
    selectors = ensure_tuple(axis_spec)
    for selector in selectors:
        if not isinstance(selector, str | Axis):
            raise errors.not_an_axis(selector)
    return selectors


def axis_spec_to_shape_dict(axis_spec: AxisSelection) -> dict[str, int | None]:
    """The sizes by name; None for a bare name."""
    return _sizes(axis_spec_to_tuple(axis_spec))


def _sizes(selectors: Iterable[AxisSelector]) -> dict[str, int | None]:
    return {s if isinstance(s, str) else s.name: None if isinstance(s, str) else s.size for s in selectors}


def _in_the_form_of(spec: AxisSelection, selectors: Iterable[AxisSelector]) -> AxisSet:
    return _sizes(selectors) if isinstance(spec, Mapping) else tuple(selectors)


def check_distinct(axes: Sequence[AxisSelector]) -> None:
    """Raises AxisError if a name is there twice."""
    if len({axis if isinstance(axis, str) else axis.name for axis in axes}) != len(axes):
        raise errors.duplicate_axis(axes)


def to_jax_shape(shape: AxisSpec) -> int | tuple[int, ...]:
    """A shape for `jnp`: the size of a single `Axis`, the sizes of several, in order.

    Raises:
        AxisError: for a bare name (it has no size) or a name that is there twice.
    """
    return shape.size if isinstance(shape, Axis) else shape_of(shape)


def shape_of(spec: AxisSpec) -> tuple[int, ...]:
    """The sizes, in order; for a single `Axis` a tuple of one."""
    return tuple([axis.size for axis in axes_of(spec)])


def find(axes: Sequence[Axis], selector: AxisSelector, owner: Any = None) -> int:
    """The position of the selected axis in `axes`.

    Raises:
        AxisError: if it is not there, or there with another size. `owner` is the value that the message shows.
    """
    try:
        name = selector if isinstance(selector, str) else selector.name
    except AttributeError:
        raise errors.not_an_axis(selector) from None
    for position, axis in enumerate(axes):
        if axis.name == name:
            if selector is not axis and not isinstance(selector, str) and selector.size != axis.size:
                raise errors.wrong_axis_size(selector, axes if owner is None else owner)
            return position
    raise errors.axis_not_found(name, axes if owner is None else owner)


def index_where(pred: Callable[[Any], bool], xs: Sequence[Any], start: int = 0) -> int:
    """The position of the first value, from `start` on, for which the predicate holds.

    Raises:
        ValueError: if it holds for none.
    """
    for position in range(start, len(xs)):
        if pred(xs[position]):
            return position
    raise errors.nothing_satisfies()


def is_axis_compatible(ax1: AxisSelector, ax2: AxisSelector) -> bool:
    """Whether the two can be the same axis: equal names and, where both have sizes, equal sizes."""
    if isinstance(ax1, str) or isinstance(ax2, str):
        return axis_name(ax1) == axis_name(ax2)
    return ax1 == ax2


def selects_axis(selector: AxisSelection, selected: AxisSelection) -> bool:
    """Whether every axis of `selected` is chosen by `selector`, with the same size where both have sizes."""
    chosen = ensure_tuple(selector)
    return all(any(is_axis_compatible(axis, other) for other in chosen) for axis in ensure_tuple(selected))


def resolve_axis(axis_spec: AxisSpec, axis_selection: AxisSelection) -> Any:
    """The axes of `axis_spec` that the selection names.

    Returns:
        An `Axis` for one selector, a tuple of axes for a sequence, a mapping from names to sizes for a mapping.

    Raises:
        AxisError: for an axis that is not there, or is there with another size.

    >>> axes = hax.make_axes(batch=4, embed=8)
    >>> hax.resolve_axis(axes, "embed")
    Axis(name='embed', size=8)
    >>> hax.resolve_axis(axes, ("embed", "batch"))
    (Axis(name='embed', size=8), Axis(name='batch', size=4))
    """
    return resolved(axes_of(axis_spec), axis_selection)


def resolved(axes: Sequence[Axis], selection: AxisSelection, owner: Any = None) -> Any:
    """`resolve_axis` of a tuple of axes; `owner` is the value that an error shows."""
    if isinstance(selection, str | Axis):
        return axes[find(axes, selection, owner)]
    return _in_the_form_of(selection, [axes[find(axes, selector, owner)] for selector in ensure_tuple(selection)])


def _fits_by_name(selector: AxisSelector, others: Mapping[str, int | None], first: Any, second: Any) -> bool:
    """Whether the selector's name is among the others.

    Raises:
        AxisError: if it is there with another size.
    """
    name = selector if isinstance(selector, str) else selector.name
    if name not in others:
        return False
    size = None if isinstance(selector, str) else selector.size
    if size is not None and others[name] not in (None, size):
        raise errors.two_sizes(name, size, list(ensure_tuple(first)), others[name] or 0, list(ensure_tuple(second)))
    return True


def union_axes(a1: AxisSelection, a2: AxisSelection) -> AxisSet:
    """The axes of the first, then those of the second that the first lacks.

    Returns:
        A mapping if either is one, else a tuple.

    Raises:
        AxisError: for a name with two sizes.

    >>> hax.union_axes({"batch": 4, "embed": 8}, {"embed": 8, "mlp": 16})
    {'batch': 4, 'embed': 8, 'mlp': 16}
    """
    left, right = axis_spec_to_tuple(a1), axis_spec_to_tuple(a2)
    sizes = _sizes(left)
    joined = left + tuple([s for s in right if not _fits_by_name(s, sizes, a2, a1)])
    return _in_the_form_of(a2 if isinstance(a2, Mapping) else a1, joined)


def concat_axes(a1: AxisSelection, a2: AxisSelection) -> AxisSet:
    """The axes of both, in order; a mapping if the first is one.

    Raises:
        AxisError: if a name is in both.
    """
    joined = axis_spec_to_tuple(a1) + axis_spec_to_tuple(a2)
    check_distinct(joined)
    return _in_the_form_of(a1, joined)


concat_axis_specs = concat_axes


def eliminate_axes(axis_spec: AxisSelection, to_remove: AxisSelection) -> AxisSet:
    """The axes without those that are named in `to_remove`.

    Raises:
        AxisError: for a name that is not there, or is there with another size.

    >>> hax.eliminate_axes({"batch": 4, "embed": 8}, "batch")
    {'embed': 8}
    """
    available = axis_spec_to_tuple(axis_spec)
    sizes = _sizes(available)
    for selector in axis_spec_to_tuple(to_remove):
        if not _fits_by_name(selector, sizes, to_remove, axis_spec):
            raise errors.axis_not_found(names_of(selector)[0], available)
    return without_axes(axis_spec, to_remove)


def without_axes(axis_spec: AxisSelection, to_remove: AxisSelection, allow_mismatched_sizes: bool = False) -> AxisSet:
    """The axes without those that are named in `to_remove`; a name that is not there is no error.

    Raises:
        AxisError: for a name that is there with another size, unless `allow_mismatched_sizes`.
    """
    removed = axis_spec_to_shape_dict(to_remove)
    if allow_mismatched_sizes:
        removed = dict.fromkeys(removed)
    available = axis_spec_to_tuple(axis_spec)
    return _in_the_form_of(axis_spec, [s for s in available if not _fits_by_name(s, removed, axis_spec, to_remove)])


def intersect_axes(ax1: AxisSelection, ax2: AxisSelection) -> AxisSet:
    """The axes of the second that the first names too, in the order of the first.

    Raises:
        AxisError: for a name with two sizes.
    """
    others = {names_of(selector)[0]: selector for selector in axis_spec_to_tuple(ax2)}
    sizes = _sizes(others.values())
    common = [s for s in axis_spec_to_tuple(ax1) if _fits_by_name(s, sizes, ax1, ax2)]
    return _in_the_form_of(ax1, [others[names_of(selector)[0]] for selector in common])


def replace_axis(axis_spec: AxisSelection, old: AxisSelector, new: AxisSelection) -> AxisSet:
    """The axes with `old` replaced in place by the axis or axes of `new`.

    Raises:
        AxisError: if `old` is not there, or a name would be there twice.

    >>> hax.axis.replace_axis({"batch": 4, "embed": 8}, "embed", {"heads": 2, "head_size": 4})
    {'batch': 4, 'heads': 2, 'head_size': 4}
    """
    available = axis_spec_to_tuple(axis_spec)
    if not _fits_by_name(old, _sizes(available), [old], available):
        raise errors.axis_not_found(names_of(old)[0], available)
    position = names_of(available).index(names_of(old)[0])
    replaced = available[:position] + axis_spec_to_tuple(new) + available[position + 1 :]
    check_distinct(replaced)
    return _in_the_form_of(axis_spec, replaced)


def unsize_axes(axis_spec: AxisSelection, to_unsize: AxisSelection | None = None) -> Any:
    """The axes as bare names: all of them, or those that are named in `to_unsize`.

    Returns:
        A name for a single axis without `to_unsize`; else a tuple, or a mapping (to None) for a mapping.

    Raises:
        AxisError: for a name that is not there.
    """
    if to_unsize is None and isinstance(axis_spec, str | Axis):
        return axis_name(axis_spec)
    available = axis_spec_to_tuple(axis_spec)
    names = names_of(available if to_unsize is None else to_unsize)
    for name in names:
        if name not in names_of(available):
            raise errors.axis_not_found(name, available)
    return _in_the_form_of(axis_spec, [n if (n := names_of(s)[0]) in names else s for s in available])


def replace_missing_with_ellipsis(ax1: AxisSelection, ax2: AxisSelection) -> tuple[Any, ...]:
    """What the second has of the axes of the first, in the order of the first, with `...` for each that it lacks.

    Raises:
        AxisError: for a name with two sizes.
    """
    others = {names_of(selector)[0]: selector for selector in axis_spec_to_tuple(ax2)}
    sizes = _sizes(others.values())
    return tuple(
        others[names_of(selector)[0]] if _fits_by_name(selector, sizes, ax1, ax2) else Ellipsis
        for selector in axis_spec_to_tuple(ax1)
    )


def overlapping_axes(ax1: AxisSelection, ax2: AxisSelection) -> tuple[AxisSelector, ...]:
    """The axes of `ax1` whose names `ax2` has too, each with its size if either gives one.

    >>> hax.axis.overlapping_axes(hax.make_axes(batch=1, embed=2), hax.make_axes(embed=2, mlp=2))
    (Axis(name='embed', size=2),)
    """
    others = {names_of(axis)[0]: axis for axis in ensure_tuple(ax2)}
    shared = [axis for axis in ensure_tuple(ax1) if names_of(axis)[0] in others]
    return tuple(others[axis] if isinstance(axis, str) else axis for axis in shared)


def rearrange_for_partial_order(partial_order: PartialAxisSpec, axes: Sequence[Any]) -> tuple[Any, ...]:
    """`axes` in the given order, in which each `...` stands for some of the axes that are not named.

    With several `...`, an axis goes to the first of them that comes after all named axes that stand before it in
    `axes` (as far as one does), and axes between which a named axis stands do not share a place.

    Args:
        partial_order: axes, names and `...`; without a `...` it names all axes.
        axes: the axes, or names, to put in order.

    Raises:
        AxisError: for an axis that is not there or is named twice, or that is not named where there is no `...`.

    >>> axes = hax.make_axes(batch=4, position=6, embed=8)
    >>> [axis.name for axis in hax.axis.rearrange_for_partial_order(("embed", ..., "batch"), axes)]
    ['embed', 'position', 'batch']
    """
    order = (Ellipsis,) if partial_order is Ellipsis else ensure_tuple(partial_order)
    return arranged(order, axes)
