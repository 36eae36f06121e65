"""Elementwise functions: the table of what `jnp` has, lifted to named arrays.

A unary function leaves the axes as they are; a binary one broadcasts by name (see `haliax.ops.align`). Dtypes are
promoted as in `jnp`. Given no NamedArray at all, each is the `jnp` function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Number
from typing import Any, overload

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from haliax import errors
from haliax.axis import Axis
from haliax.core.array import NamedArray, held, hold, unchecked, wrap
from haliax.core.explicit import SHARDING_ERRORS, on_any_mesh, retried
from haliax.ops.align import broadcast_call, broadcast_raw
from haliax.typing import BinaryFunction, NamedOrNumeric, PairFunction, UnaryFunction


def unary(function: Callable[..., Any], doc: str | None = None) -> UnaryFunction:
    """The elementwise `function` of one array, for named arrays. Options are passed on by keyword.

    >>> double = hax.elementwise.unary(lambda a: 2 * a)
    >>> double(hax.arange(hax.Axis("embed", 3)))
    i32[embed=3] [0 2 4]
    """
    name = function.__name__

    def elementwise(a: Any, **options: Any) -> Any:
        if isinstance(a, NamedArray):
            return _mapped(partial(function, **options) if options else function, a)
        return function(a, **options)

    return _described(elementwise, name, doc or f"`jnp.{name}`, elementwise: the axes stay as they are.")


def _mapped(function: Callable[[Any], Any], a: NamedArray) -> NamedArray:
    own = held(a)
    result = unchecked(function(own.array), own.axes)
    return result if own is a else hold(result, a.axes)


def binary(function: Callable[[Any, Any], Any], doc: str | None = None) -> BinaryFunction:
    """The elementwise `function` of two arrays, for named arrays."""
    name = function.__name__

    def elementwise(a: Any, b: Any) -> Any:
        try:
            if isinstance(a, NamedArray):
                axes = a.axes
                if isinstance(b, NamedArray):
                    if (axes is b.axes or axes == b.axes) and held(a) is a and held(b) is b:
                        return unchecked(function(a.array, b.array), axes)
                elif not getattr(b, "shape", ()):
                    return _mapped(lambda array: function(array, b), a)
                else:
                    return _beside_unnamed(function, a, b)
            elif not isinstance(b, NamedArray):
                return function(a, b)
            elif not getattr(a, "shape", ()):
                return _mapped(lambda array: function(a, array), b)
            else:
                return _beside_unnamed(function, a, b)
        except TypeError:
            _check_operands(name, a, b)
            raise
        except SHARDING_ERRORS as error:
            return retried(error, elementwise, a, b)
        return broadcast_call(function, (a, b))

    return _described(elementwise, name, doc or f"`jnp.{name}`, elementwise: the operands are broadcast by name.")


def _beside_unnamed(function: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """The function of a NamedArray and an unnamed array with dimensions, which is fine if the named one is a scalar."""
    named, unnamed = (a, b) if isinstance(a, NamedArray) else (b, a)
    if named.axes:
        raise errors.unnamed_operand(named, unnamed)
    return function(named.array, unnamed) if named is a else function(unnamed, named.array)


def _check_operands(name: str, *operands: Any) -> None:
    """Raises NamedTypeError if an operand is neither an array nor a number."""
    for operand in operands:
        if not hasattr(operand, "dtype") and not isinstance(operand, Number):
            raise errors.not_an_operand(name, operand)


def _described(function: Any, name: str, doc: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _pairwise(function: Any) -> PairFunction:
    """A function of two arrays that gives a pair, such as `divmod`."""

    @on_any_mesh
    def pairwise(a: Any, b: Any) -> tuple[Any, Any]:
        if not isinstance(a, NamedArray) and not isinstance(b, NamedArray):
            return function(a, b)
        (left, right), axes, order = broadcast_raw((a, b))
        one, two = function(left, right)
        return hold(unchecked(one, axes), order), hold(unchecked(two, axes), order)

    return _described(pairwise, function.__name__, f"`jnp.{function.__name__}`, elementwise: a pair of arrays.")


absolute = abs = unary(jnp.abs)
angle = unary(jnp.angle)
arccos = unary(jnp.arccos)
arccosh = unary(jnp.arccosh)
arcsin = unary(jnp.arcsin)
arcsinh = unary(jnp.arcsinh)
arctan = unary(jnp.arctan)
arctanh = unary(jnp.arctanh)
bitwise_count = unary(jnp.bitwise_count)
bitwise_invert = bitwise_not = invert = unary(jnp.bitwise_not)
cbrt = unary(jnp.cbrt)
ceil = unary(jnp.ceil)
conj = conjugate = unary(jnp.conj)
copy = unary(jnp.copy)
cos = unary(jnp.cos)
cosh = unary(jnp.cosh)
deg2rad = unary(jnp.deg2rad)
degrees = unary(jnp.degrees)
exp = unary(jnp.exp)
exp2 = unary(jnp.exp2)
expm1 = unary(jnp.expm1)
fabs = unary(jnp.fabs)
fix = unary(jnp.trunc, "Rounds towards zero, elementwise.")
floor = unary(jnp.floor)
i0 = unary(jnp.i0)
imag = unary(jnp.imag)
iscomplex = unary(jnp.iscomplex)
isfinite = unary(jnp.isfinite)
isinf = unary(jnp.isinf)
isnan = unary(jnp.isnan)
isneginf = unary(jnp.isneginf)
isposinf = unary(jnp.isposinf)
isreal = unary(jnp.isreal)
log = unary(jnp.log)
log10 = unary(jnp.log10)
log1p = unary(jnp.log1p)
log2 = unary(jnp.log2)
logical_not = unary(jnp.logical_not)
negative = unary(jnp.negative)
positive = unary(jnp.positive)
rad2deg = unary(jnp.rad2deg)
radians = unary(jnp.radians)
real = unary(jnp.real)
reciprocal = unary(jnp.reciprocal)
rint = unary(jnp.rint)
sign = unary(jnp.sign)
signbit = unary(jnp.signbit)
sin = unary(jnp.sin)
sinc = unary(jnp.sinc)
sinh = unary(jnp.sinh)
sqrt = unary(jnp.sqrt)
square = unary(jnp.square)
tan = unary(jnp.tan)
tanh = unary(jnp.tanh)
trunc = unary(jnp.trunc)

add = binary(jnp.add)
arctan2 = binary(jnp.arctan2)
bitwise_and = binary(jnp.bitwise_and)
bitwise_left_shift = left_shift = binary(jnp.left_shift)
bitwise_or = binary(jnp.bitwise_or)
bitwise_right_shift = right_shift = binary(jnp.right_shift)
bitwise_xor = binary(jnp.bitwise_xor)
divide = true_divide = binary(jnp.true_divide)
divmod = _pairwise(jnp.divmod)
equal = binary(jnp.equal)
float_power = binary(jnp.float_power)
floor_divide = binary(jnp.floor_divide)
fmax = binary(jnp.fmax)
fmin = binary(jnp.fmin)
fmod = binary(jnp.fmod)
greater = binary(jnp.greater)
greater_equal = binary(jnp.greater_equal)
hypot = binary(jnp.hypot)
less = binary(jnp.less)
less_equal = binary(jnp.less_equal)
logaddexp = binary(jnp.logaddexp)
logaddexp2 = binary(jnp.logaddexp2)
logical_and = binary(jnp.logical_and)
logical_or = binary(jnp.logical_or)
logical_xor = binary(jnp.logical_xor)
maximum = binary(jnp.maximum)
minimum = binary(jnp.minimum)
mod = remainder = binary(jnp.remainder)
multiply = binary(jnp.multiply)
nextafter = binary(jnp.nextafter)
not_equal = binary(jnp.not_equal)
power = binary(jnp.power)
subtract = binary(jnp.subtract)


@overload
def astype(array: NamedArray, dtype: Any) -> NamedArray: ...


@overload
def astype(array: ArrayLike, dtype: Any) -> jax.Array: ...


def astype(array: NamedOrNumeric, dtype: Any) -> Any:
    """The array with its numbers converted to `dtype`.

    Args:
        array: a NamedArray or plain array.
        dtype: the new dtype.
    """
    if isinstance(array, NamedArray):
        return array if array.dtype == dtype else _mapped(lambda raw: raw.astype(dtype), array)
    return jnp.asarray(array).astype(dtype)


@overload
def around(a: NamedArray, decimals: int = 0) -> NamedArray: ...


@overload
def around(a: ArrayLike, decimals: int = 0) -> jax.Array: ...


def around(a: NamedOrNumeric, decimals: int = 0) -> Any:
    """Rounds to so many decimals, elementwise.

    Args:
        a: a NamedArray or plain array.
        decimals: how many; negative ones round before the point.
    """
    if isinstance(a, NamedArray):
        return _mapped(lambda raw: jnp.round(raw, decimals), a)
    return jnp.round(a, decimals)


round = around


@overload
def rsqrt(a: NamedArray) -> NamedArray: ...


@overload
def rsqrt(a: ArrayLike) -> jax.Array: ...


def rsqrt(a: NamedOrNumeric) -> Any:
    """The reciprocal of the square root, elementwise."""
    return _rsqrt(a)


def _floating_rsqrt(a: Any) -> Any:
    a = jnp.asarray(a)
    return lax.rsqrt(a if jnp.issubdtype(a.dtype, jnp.inexact) else a.astype(jnp.float32))


_rsqrt = unary(_floating_rsqrt)


@overload
def frexp(a: NamedArray) -> tuple[NamedArray, NamedArray]: ...


@overload
def frexp(a: ArrayLike) -> tuple[jax.Array, jax.Array]: ...


def frexp(a: NamedOrNumeric) -> Any:
    """The mantissa and the exponent of each element, as a pair."""
    if not isinstance(a, NamedArray):
        return jnp.frexp(a)
    mantissa, exponent = jnp.frexp(a.array)
    return wrap(mantissa, a.axes), wrap(exponent, a.axes)


def ndim(a: NamedOrNumeric) -> int:
    """How many axes there are."""
    return len(a.axes) if isinstance(a, NamedArray) else jnp.ndim(a)


@overload
def clip(array: NamedArray, a_min: NamedOrNumeric | None = None, a_max: NamedOrNumeric | None = None) -> NamedArray: ...


@overload
def clip(array: ArrayLike, a_min: NamedArray, a_max: NamedOrNumeric | None = None) -> NamedArray: ...


@overload
def clip(array: ArrayLike, a_min: NamedOrNumeric | None = None, *, a_max: NamedArray) -> NamedArray: ...


@overload
def clip(array: ArrayLike, a_min: ArrayLike | None = None, a_max: ArrayLike | None = None) -> jax.Array: ...


@on_any_mesh
def clip(array: NamedOrNumeric, a_min: NamedOrNumeric | None = None, a_max: NamedOrNumeric | None = None) -> Any:
    """The array with its elements limited to the range, whose ends may be named arrays; None is no limit.

    Args:
        array: a NamedArray or number.
        a_min: the smallest value; broadcast by name.
        a_max: the largest value; broadcast by name.

    Raises:
        AxisError: if an end does not broadcast to the array.

    >>> hax.clip(hax.arange(hax.Axis("position", 5)), 1, 3)
    i32[position=5] [1 1 2 3 3]
    """
    if a_min is not None:
        array = maximum(array, a_min)
    return array if a_max is None else minimum(array, a_max)


@overload
def where(condition: NamedArray, *, fill_value: Any, new_axis: Axis) -> tuple[NamedArray, ...]: ...


@overload
def where(condition: NamedArray, x: NamedOrNumeric, y: NamedOrNumeric) -> NamedArray: ...


@overload
def where(condition: ArrayLike, x: NamedArray, y: NamedOrNumeric) -> NamedArray: ...


@overload
def where(condition: ArrayLike, x: ArrayLike, y: NamedArray) -> NamedArray: ...


@overload
def where(condition: ArrayLike, x: ArrayLike, y: ArrayLike) -> jax.Array: ...


@on_any_mesh
def where(
    condition: NamedOrNumeric,
    x: NamedOrNumeric | None = None,
    y: NamedOrNumeric | None = None,
    fill_value: Any = None,
    new_axis: Axis | None = None,
) -> Any:
    """`x` where the condition holds, else `y`: elementwise, all three broadcast by name.

    `where(condition, fill_value=-1, new_axis=Axis("found", 8))` gives, for each axis of the condition, the positions
    where it holds, along `new_axis`.

    Args:
        condition: a NamedArray, or a boolean.
        x: a NamedArray or number. Both it and `y` are given, or neither.
        y: a NamedArray or number.
        fill_value: the position that fills up `new_axis`; only without `x` and `y`.
        new_axis: the axis of the positions; only without `x` and `y`.

    Raises:
        AxisError: if none of the three has all axes.
        ValueError: if only one of `x` and `y` is given, or neither and not both `fill_value` and `new_axis`.

    >>> x = hax.arange(hax.Axis("position", 4))
    >>> hax.where(x > 1, x, 0)
    i32[position=4] [0 0 2 3]
    >>> hax.where(x > 1, fill_value=-1, new_axis=hax.Axis("found", 3))
    (i32[found=3] [ 2 3 -1],)
    """
    if (x is None) != (y is None):
        raise errors.where_needs("give both x and y, or neither")
    if x is None:
        if fill_value is None or new_axis is None:
            raise errors.where_needs("without x and y, give both fill_value and new_axis")
        if not isinstance(condition, NamedArray):
            raise errors.not_named("where", condition)
        found = jnp.where(condition.array, size=new_axis.size, fill_value=fill_value)
        return tuple(wrap(positions, (new_axis,)) for positions in found)
    operands: tuple[Any, ...] = (condition, x, y)
    if not any(isinstance(operand, NamedArray) for operand in operands):
        return jnp.where(*operands)
    return broadcast_call(jnp.where, operands)


@overload
def isclose(
    a: NamedArray, b: NamedOrNumeric, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> NamedArray: ...


@overload
def isclose(
    a: ArrayLike, b: NamedArray, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> NamedArray: ...


@overload
def isclose(
    a: ArrayLike, b: ArrayLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> jax.Array: ...


@on_any_mesh
def isclose(
    a: NamedOrNumeric, b: NamedOrNumeric, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether the elements are equal within a tolerance, elementwise.

    Args:
        a: a NamedArray or number.
        b: another; broadcast by name.
        rtol: the tolerance, relative to `b`.
        atol: the absolute tolerance.
        equal_nan: whether NaN equals NaN.

    Raises:
        AxisError: if neither has all axes of the other.

    >>> hax.isclose(hax.ones(hax.Axis("embed", 2)), 1 + 1e-9)
    bool[embed=2] [ True True]
    """
    if not isinstance(a, NamedArray) and not isinstance(b, NamedArray):
        return jnp.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    return broadcast_call(partial(jnp.isclose, rtol=rtol, atol=atol, equal_nan=equal_nan), (a, b))


def numpy_ufunc(array: NamedArray, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    """What `numpy.exp(named)` and `numpy_array + named` do: the function of this module that has the ufunc's name."""
    function = globals().get(ufunc.__name__)
    if method != "__call__" or options or function is None:
        called = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        raise errors.given_to_another_library(f"np.{called}", array)
    return function(*inputs)
