"""Contraction: `dot`, by the names of the axes.

Axes that both operands have and that are not summed over are batch axes; the rest are free. The product is one
`dot_general` with all contracted axes at once, which gives batch axes, then the free axes of the left operand, then
those of the right. The result has its axes in the order in which the operands have them; inside a trace it is held as
`dot_general` gives it (see `haliax.core.array`), so the compiler sees the product that it likes best, and no
transposition that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from haliax import errors
from haliax._compat import INLINED_WHILE_TRACING
from haliax.axis import (
    Axis,
    AxisSelection,
    AxisSelector,
    PartialAxisSpec,
    ensure_tuple,
    find,
    names_of,
    rearrange_for_partial_order,
)
from haliax.core.array import NamedArray, held, hold, unchecked
from haliax.core.explicit import SHARDING_ERRORS, retried
from haliax.ops.align import union_axes_of

DotGeneral = Callable[..., Any]
_NOT_GIVEN: Any = object()  # None is a selection: all axes


def dot(
    *operands: NamedArray | AxisSelection | None,
    axis: Any = _NOT_GIVEN,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_axes: PartialAxisSpec | None = None,
    dot_general: DotGeneral | None = None,
) -> NamedArray:
    """Multiplies named arrays and sums over the given axes: `dot(x, w, axis=Embed)`.

    The older spellings `dot(Embed, x, w)` and `x.dot(Embed, w)` mean the same.

    Args:
        operands: two or more NamedArrays (with one, a sum), and at most one axis selection.
        axis: the axes to sum over, which must be said: None for all axes, `()` for none.
        precision: as in `jax.lax.dot_general`.
        preferred_element_type: the dtype to accumulate in and to return.
        out_axes: an order of the result's axes, in which `...` may stand for the others.
        dot_general: used in place of `jax.lax.dot_general`.

    Returns:
        Unless `out_axes` is given, the axes are in the order in which the operands have them: those of the first, then
        the further ones of the second.

    Raises:
        AxisError: for an axis that no operand has, or a name with two sizes.
        ValueError: if `axis` is not given.

    >>> x, w = hax.ones({"batch": 2, "embed": 3}), hax.ones({"embed": 3, "mlp": 4})
    >>> hax.dot(x, w, axis="embed").shape
    {'batch': 2, 'mlp': 4}
    >>> hax.dot(x, x.rename({"batch": "other"}), axis="embed")
    f32[batch=2, other=2] [[3. 3.] [3. 3.]]
    """
    arrays: list[NamedArray] = []
    for operand in operands:
        if isinstance(operand, NamedArray):
            arrays.append(operand)
        elif axis is _NOT_GIVEN and not hasattr(operand, "dtype"):
            axis = operand
        else:
            raise errors.not_named("dot", operand)
    if not arrays:
        raise errors.no_operands("dot")
    if axis is _NOT_GIVEN:
        raise errors.dot_without_axis(arrays)
    summed = _summed_names(arrays, axis)
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    result = _contract_all(arrays, summed, dot_general or lax.dot_general, options)
    order = _first_seen(tuple([array.axes for array in arrays]), result.axes)
    return hold(result, order if out_axes is None else rearrange_for_partial_order(out_axes, order))


@lru_cache(maxsize=4096)
def _first_seen(operands: tuple[tuple[Axis, ...], ...], axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The axes in the order in which the operands have them."""
    return tuple([axis for axis in dict.fromkeys(axis for own in operands for axis in own) if axis in axes])


def _summed_names(arrays: Sequence[NamedArray], axis: AxisSelection | None) -> tuple[str, ...]:
    try:
        names = _known_names(tuple([array.axes for array in arrays]), None if axis is None else ensure_tuple(axis))
    except TypeError:  # a selector without a hash is none
        names = None
    if names is not None:
        return names
    everything = union_axes_of(arrays)
    for selector in ensure_tuple(axis):
        if not isinstance(selector, str | Axis):
            raise errors.not_an_axis(selector)
        if not any(a.name == names_of(selector)[0] for a in everything):
            raise errors.axis_not_found(names_of(selector)[0], *arrays)
        find(everything, selector)
    return names_of(axis or ())


def _contract_all(
    arrays: Sequence[NamedArray], summed: tuple[str, ...], dot_general: DotGeneral, options: dict[str, Any]
) -> NamedArray:
    """From left to right, each name summed as soon as no later operand has it."""
    result = held(arrays[0])
    for position, operand in enumerate(arrays[1:], start=1):
        later = {axis.name for array in arrays[position + 1 :] for axis in array.axes}
        now = tuple([n for n in summed if n not in later]) if later else summed
        result = _contract_pair(result, held(operand), now, dot_general, options)
    lonely = [n for n in summed if any(axis.name == n for axis in result.axes)]
    return _summed(result, lonely)


def _contract_pair(
    left: NamedArray, right: NamedArray, summed: tuple[str, ...], dot_general: DotGeneral, options: dict[str, Any]
) -> NamedArray:
    plan = _planned(left.axes, right.axes, summed)
    first, second = _promoted(_summed(left, plan.only_left).array, _summed(right, plan.only_right).array)
    if dot_general is lax.dot_general:
        dot_general = _compiled_dot_general
    try:
        return unchecked(dot_general(first, second, plan.dimension_numbers, **options), plan.axes)
    except SHARDING_ERRORS as error:
        return retried(error, lambda x, y: _contract_pair(x, y, summed, dot_general, options), left, right)


class _Plan(NamedTuple):
    """One `dot_general`. A summed axis that only one operand has is summed there before."""

    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    dimension_numbers: Any
    axes: tuple[Axis, ...]


# Both functions below are pure, so what they remember is never out of date, and they remember a limited number.
@lru_cache(maxsize=4096)
def _known_names(
    operands: tuple[tuple[Axis, ...], ...], selectors: tuple[AxisSelector, ...] | None
) -> tuple[str, ...] | None:
    """The names of the selectors, or of all axes; None where the selectors or the operands do not fit together."""
    known: dict[str, Axis] = {}
    for axes in operands:
        for axis in axes:
            if known.setdefault(axis.name, axis) != axis:
                return None
    if selectors is None:
        return tuple(known)
    for selector in selectors:
        if not isinstance(selector, str | Axis):
            return None
        axis = known.get(selector if isinstance(selector, str) else selector.name)
        if axis is None or (isinstance(selector, Axis) and selector != axis):
            return None
    return names_of(selectors)


@lru_cache(maxsize=4096)
def _planned(left: tuple[Axis, ...], right: tuple[Axis, ...], summed: tuple[str, ...]) -> _Plan:
    only_left = tuple([n for n in names_of(left) if n in summed and n not in names_of(right)])
    only_right = tuple([n for n in names_of(right) if n in summed and n not in names_of(left)])
    left = tuple([axis for axis in left if axis.name not in only_left])
    right = tuple([axis for axis in right if axis.name not in only_right])
    left_names, right_names = names_of(left), names_of(right)
    contracted = [n for n in left_names if n in right_names and n in summed]
    batch = [n for n in left_names if n in right_names and n not in summed]
    dimension_numbers = (
        (tuple([left_names.index(n) for n in contracted]), tuple([right_names.index(n) for n in contracted])),
        (tuple([left_names.index(n) for n in batch]), tuple([right_names.index(n) for n in batch])),
    )
    axes = (
        *[left[left_names.index(n)] for n in batch],
        *[axis for axis in left if axis.name not in right_names],
        *[axis for axis in right if axis.name not in left_names],
    )
    return _Plan(only_left, only_right, dimension_numbers, axes)


# Outside of a trace a compiled call is several times cheaper than binding the primitive. Inside, JAX remembers how a
# product of these shapes is differentiated, and the call itself is inlined, as those of `jnp` are.
_compiled_dot_general = jax.jit(
    lax.dot_general,
    static_argnames=("dimension_numbers", "precision", "preferred_element_type"),
    inline=INLINED_WHILE_TRACING,
)


def _promoted(first: Any, second: Any) -> tuple[Any, Any]:
    if first.dtype == second.dtype:
        return first, second
    dtype = jnp.promote_types(first.dtype, second.dtype)
    return jnp.asarray(first, dtype), jnp.asarray(second, dtype)


def _summed(array: NamedArray, names: Sequence[str]) -> NamedArray:
    if not names:
        return array
    gone = tuple(position for position, axis in enumerate(array.axes) if axis.name in names)
    kept = tuple(axis for axis in array.axes if axis.name not in names)
    return unchecked(jnp.sum(array.array, axis=gone), kept)


def matmul(first: NamedArray, second: NamedArray) -> NamedArray:
    """`first @ second`: not defined for named arrays, because it does not say over which axis.

    Raises:
        NamedTypeError: always, with the spelling to use.
    """
    raise errors.matmul(first, second)
