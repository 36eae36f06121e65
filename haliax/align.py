"""Broadcasting by name: bringing operands to one set of axes, cheaply.

Operands are lined up by the names of their axes. One of them must have all axes of the others, and the result has its
axes in its order (the first such operand decides). The others are transposed to that order if need be and given
dimensions of size one where they lack an axis; none is ever copied out to the full shape. So a mask of two axes beside
scores of four stays as small as it is, and the big operand is never transposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from haliax import errors
from haliax.array import NamedArray, unchecked, wrap
from haliax.axis import Axis, AxisSpec, axes_of


def common_axes(operands: Sequence[NamedArray]) -> tuple[Axis, ...]:
    """The axes of the first operand that has all axes of all operands.

    Raises:
        AxisError: if none has them all, or a name has two sizes.
    """
    axes = operands[0].axes
    for operand in operands[1:]:
        if operand.axes != axes:
            union_axes_of(operands)
            if not set(operand.axes) <= set(axes):
                if not set(axes) <= set(operand.axes):
                    break
                axes = operand.axes
    else:
        return axes
    everything = set(union_axes_of(operands))
    for operand in operands:
        if everything <= set(operand.axes):
            return operand.axes
    raise errors.not_broadcastable(*operands)


def union_axes_of(operands: Sequence[NamedArray]) -> tuple[Axis, ...]:
    """The axes of the first operand, then the further ones of the others.

    Raises:
        AxisError: for a name with two sizes, showing the two operands.
    """
    owners: dict[str, tuple[Axis, NamedArray]] = {}
    for operand in operands:
        for axis in operand.axes:
            known, owner = owners.setdefault(axis.name, (axis, operand))
            if known.size != axis.size:
                raise errors.two_sizes(axis.name, known.size, owner, axis.size, operand)
    return tuple(axis for axis, _ in owners.values())


def aligned(operand: NamedArray, axes: tuple[Axis, ...]) -> Any:
    """The raw array of `operand`, as it broadcasts by position against an array with `axes`.

    It has their order, and a dimension of size one for each axis that it lacks; in front these are left out, because
    broadcasting puts them there (unless JAX is told to refuse that).

    Raises:
        AxisError: if the operand has an axis that `axes` lacks.
    """
    own = operand.axes
    if own == axes or not own:
        return operand.array
    names = [axis.name for axis in own]
    wanted = [axis.name for axis in axes]
    missing = [name for name in names if name not in wanted]
    if missing:
        raise errors.axes_missing_in_target(missing, operand, axes)
    order = [names.index(name) for name in wanted if name in names]
    array = operand.array if order == sorted(order) else jnp.transpose(operand.array, order)
    first = wanted.index(names[order[0]]) if _ranks_are_promoted() else 0
    absent = [position - first for position, name in enumerate(wanted) if position >= first and name not in names]
    return lax.expand_dims(array, absent) if absent else array


def _ranks_are_promoted() -> bool:
    return getattr(jax.config, "jax_numpy_rank_promotion", "allow") == "allow"


def broadcast_raw(operands: Sequence[Any]) -> tuple[list[Any], tuple[Axis, ...]]:
    """Raw arrays that broadcast against each other, and the axes of what comes out. Scalars pass through.

    Raises:
        AxisError: if no operand has all axes, or an unnamed array with dimensions stands beside named ones.
        NamedTypeError: if no operand is a NamedArray.
    """
    named_operands = [operand for operand in operands if isinstance(operand, NamedArray)]
    if not named_operands:
        raise errors.no_operands("this function")
    axes = common_axes(named_operands)
    return [_raw(operand, axes, named_operands[0]) for operand in operands], axes


def _raw(operand: Any, axes: tuple[Axis, ...], beside: NamedArray) -> Any:
    if isinstance(operand, NamedArray):
        return aligned(operand, axes)
    shape = getattr(operand, "shape", ())
    if shape and not _fits(shape, axes):
        raise errors.unnamed_operand(beside, operand)
    return operand


def _fits(shape: Sequence[int], axes: Sequence[Axis]) -> bool:
    """Whether an unnamed array broadcasts to the axes by position, without enlarging them."""
    sizes = [axis.size for axis in axes]
    tail = sizes[len(sizes) - len(shape) :] if len(shape) <= len(sizes) else None
    return tail is not None and all(size in (1, own) for size, own in zip(shape, tail, strict=True))


def broadcast_to(
    array: Any, axes: AxisSpec, ensure_order: bool = True, enforce_no_extra_axes: bool = True
) -> NamedArray:
    """`array` with all of `axes`.

    Args:
        array: a NamedArray or a scalar.
        axes: the axes to have. Axes that the array has beyond these go last.
        ensure_order: whether the result has exactly the order of `axes`; without it, an array that has them all already
            is returned as it is, and missing axes are put in front.
        enforce_no_extra_axes: whether an axis beyond `axes` is an error.

    Raises:
        AxisError: for an axis beyond `axes`, or one of another size.
    """
    target = axes_of(axes)
    if not isinstance(array, NamedArray):
        array = NamedArray(jnp.asarray(array), ())
    everything = union_axes_of([unchecked(None, target), array])
    extra = [axis.name for axis in array.axes if axis not in target]
    if extra and enforce_no_extra_axes:
        raise errors.axes_missing_in_target(extra, array, target)
    if not ensure_order:
        if len(everything) == len(array.axes):
            return array
        everything = tuple(axis for axis in target if axis not in array.axes) + array.axes
    if everything == array.axes:
        return array
    return wrap(jnp.broadcast_to(aligned(array, everything), [axis.size for axis in everything]), everything)


def broadcast_axis(array: NamedArray, axis: AxisSpec) -> NamedArray:
    """`array` with the axes of `axis` that it lacks, put in front.

    Raises:
        AxisError: if it has one of them with another size.
    """
    return broadcast_to(array, axis, ensure_order=False, enforce_no_extra_axes=False)


def broadcast_arrays(
    *arrays: NamedArray, require_subset: bool = True, ensure_order: bool = True
) -> tuple[NamedArray, ...]:
    """The arrays, each with all axes of all of them.

    Args:
        arrays: NamedArrays.
        require_subset: whether one of them must have all axes already.
        ensure_order: whether the results have the same order of axes.

    Raises:
        AxisError: for a name with two sizes, or if `require_subset` and none has all axes.
    """
    return broadcast_arrays_and_return_axes(*arrays, require_subset=require_subset, ensure_order=ensure_order)[0]


def broadcast_arrays_and_return_axes(
    *arrays: NamedArray, require_subset: bool = True, ensure_order: bool = True
) -> tuple[tuple[NamedArray, ...], tuple[Axis, ...]]:
    """Like `broadcast_arrays`, with the axes that the results have."""
    if not arrays:
        return (), ()
    axes = common_axes(arrays) if require_subset else union_axes_of(arrays)
    return tuple(broadcast_to(array, axes, ensure_order=ensure_order) for array in arrays), axes
