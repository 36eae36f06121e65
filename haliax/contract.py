"""Contraction: `dot`, by the names of the axes.

Axes that both operands have and that are not summed over are batch axes; the rest are free. The product is one
`dot_general` with all contracted axes at once, and the result keeps the order that it gives: batch axes, then the free
axes of the left operand, then those of the right. Nothing is reshaped or transposed, so the compiler sees the product
that it likes best; ask with `out_axes` or `rearrange` where an order matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from haliax import errors
from haliax.align import union_axes_of
from haliax.array import NamedArray, wrap
from haliax.axis import (
    Axis,
    AxisSelection,
    PartialAxisSpec,
    ensure_tuple,
    find,
    names_of,
    rearrange_for_partial_order,
)

DotGeneral = Callable[..., Any]


def dot(
    *operands: NamedArray | AxisSelection,
    axis: AxisSelection | None = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_axes: PartialAxisSpec | None = None,
    dot_general: DotGeneral | None = None,
) -> NamedArray:
    """Multiplies named arrays and sums over the given axes: `dot(x, w, axis=Embed)`.

    The older spellings `dot(Embed, x, w)` and `x.dot(Embed, w)` mean the same.

    Args:
        operands: two or more NamedArrays (with one, a sum), and at most one axis selection.
        axis: the axes to sum over; None for all axes, `()` for none.
        precision: as in `jax.lax.dot_general`.
        preferred_element_type: the dtype to accumulate in and to return.
        out_axes: an order of the result's axes, in which `...` may stand; by default as the product gives them.
        dot_general: used in place of `jax.lax.dot_general`.

    Returns:
        Unless `out_axes` is given: batch axes, free axes of the left operand, free axes of the right operand.

    Raises:
        AxisError: for an axis that no operand has, or a name with two sizes.
    """
    arrays: list[NamedArray] = []
    for operand in operands:
        if isinstance(operand, NamedArray):
            arrays.append(operand)
        elif axis is None and not hasattr(operand, "dtype"):
            axis = operand
        else:
            raise errors.not_named("dot", operand)
    if not arrays:
        raise errors.no_operands("dot")
    summed = _summed_names(arrays, axis)
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    result = _contract_all(arrays, summed, dot_general or lax.dot_general, options)
    if out_axes is None:
        return result
    return _in_order(result, rearrange_for_partial_order(out_axes, result.axes))


def _summed_names(arrays: Sequence[NamedArray], axis: AxisSelection | None) -> tuple[str, ...]:
    everything = union_axes_of(arrays)
    if axis is None:
        return names_of(everything)
    for selector in ensure_tuple(axis):
        if not isinstance(selector, str | Axis):
            raise errors.not_an_axis(selector)
        if not any(a.name == names_of(selector)[0] for a in everything):
            raise errors.axis_not_found(names_of(selector)[0], *arrays)
        find(everything, selector)
    return names_of(axis)


def _contract_all(
    arrays: Sequence[NamedArray], summed: Sequence[str], dot_general: DotGeneral, options: dict[str, Any]
) -> NamedArray:
    """From left to right, each name summed as soon as no later operand has it."""
    result = arrays[0]
    for position, operand in enumerate(arrays[1:], start=1):
        later = {axis.name for array in arrays[position + 1 :] for axis in array.axes}
        result = _contract_pair(result, operand, [n for n in summed if n not in later], dot_general, options)
    lonely = [n for n in summed if any(axis.name == n for axis in result.axes)]
    return _summed(result, lonely)


def _contract_pair(
    left: NamedArray, right: NamedArray, summed: Sequence[str], dot_general: DotGeneral, options: dict[str, Any]
) -> NamedArray:
    """One `dot_general`. A summed axis that only one operand has is summed there before."""
    left_names, right_names = [axis.name for axis in left.axes], [axis.name for axis in right.axes]
    only_left = [n for n in summed if n in left_names and n not in right_names]
    only_right = [n for n in summed if n in right_names and n not in left_names]
    if only_left:
        left = _summed(left, only_left)
        left_names = [axis.name for axis in left.axes]
    if only_right:
        right = _summed(right, only_right)
        right_names = [axis.name for axis in right.axes]

    contracted = [n for n in left_names if n in right_names and n in summed]
    batch = [n for n in left_names if n in right_names and n not in summed]
    dimension_numbers = (
        (tuple([left_names.index(n) for n in contracted]), tuple([right_names.index(n) for n in contracted])),
        (tuple([left_names.index(n) for n in batch]), tuple([right_names.index(n) for n in batch])),
    )
    axes = (
        *[left.axes[left_names.index(n)] for n in batch],
        *[axis for axis in left.axes if axis.name not in right_names],
        *[axis for axis in right.axes if axis.name not in left_names],
    )
    first, second = _promoted(left.array, right.array)
    if dot_general is lax.dot_general and not isinstance(first, Tracer) and not isinstance(second, Tracer):
        dot_general = _compiled_dot_general
    return wrap(dot_general(first, second, dimension_numbers, **options), axes)


# Outside of a trace a compiled call is several times cheaper than binding the primitive.
_compiled_dot_general = jax.jit(
    lax.dot_general, static_argnames=("dimension_numbers", "precision", "preferred_element_type")
)


def _promoted(first: Any, second: Any) -> tuple[Any, Any]:
    if first.dtype == second.dtype:
        return jnp.asarray(first), jnp.asarray(second)
    dtype = jnp.promote_types(first.dtype, second.dtype)
    return jnp.asarray(first, dtype), jnp.asarray(second, dtype)


def _summed(array: NamedArray, names: Sequence[str]) -> NamedArray:
    if not names:
        return array
    gone = tuple(position for position, axis in enumerate(array.axes) if axis.name in names)
    kept = tuple(axis for axis in array.axes if axis.name not in names)
    return wrap(jnp.sum(array.array, axis=gone), kept)


def _in_order(array: NamedArray, axes: tuple[Axis, ...]) -> NamedArray:
    if axes == array.axes:
        return array
    return wrap(jnp.transpose(array.array, [array.axes.index(axis) for axis in axes]), axes)


def matmul(first: NamedArray, second: NamedArray) -> NamedArray:
    """`first @ second`: not defined for named arrays, because it does not say over which axis.

    Raises:
        NamedTypeError: always, with the spelling to use.
    """
    raise errors.matmul(first, second)
