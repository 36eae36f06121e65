"""Elementwise functions: the table of what `jnp` has, lifted to named arrays.

A unary function leaves the axes as they are; a binary one broadcasts by name (see `haliax.align`). Dtypes are promoted
as in `jnp`. Given no NamedArray at all, each is the `jnp` function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from haliax.align import broadcast_raw
from haliax.array import NamedArray, wrap
from haliax.typing import BinaryFunction, NamedOrNumeric, UnaryFunction


def unary(function: Callable[..., Any], doc: str | None = None) -> UnaryFunction:
    """The elementwise `function` of one array, for named arrays. Options are passed on by keyword."""
    name = function.__name__

    def elementwise(array: Any, **options: Any) -> Any:
        if isinstance(array, NamedArray):
            return wrap(function(array.array, **options), array.axes)
        return function(array, **options)

    return _described(elementwise, name, doc or f"`jnp.{name}`, elementwise: the axes stay as they are.")


def binary(function: Callable[[Any, Any], Any], doc: str | None = None) -> BinaryFunction:
    """The elementwise `function` of two arrays, for named arrays."""
    name = function.__name__

    def elementwise(first: Any, second: Any) -> Any:
        if isinstance(first, NamedArray):
            axes = first.axes
            if isinstance(second, NamedArray):
                if axes is second.axes or axes == second.axes:
                    return wrap(function(first.array, second.array), axes)
            elif not getattr(second, "shape", ()):
                return wrap(function(first.array, second), axes)
        elif not isinstance(second, NamedArray):
            return function(first, second)
        elif not getattr(first, "shape", ()):
            return wrap(function(first, second.array), second.axes)
        (left, right), axes = broadcast_raw((first, second))
        return wrap(function(left, right), axes)

    return _described(elementwise, name, doc or f"`jnp.{name}`, elementwise: the operands are broadcast by name.")


def _described(function: Any, name: str, doc: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _pairwise(function: Any) -> Any:
    """A function of two arrays that gives a pair, such as `divmod`."""

    def pairwise(first: Any, second: Any) -> tuple[Any, Any]:
        if not isinstance(first, NamedArray) and not isinstance(second, NamedArray):
            return function(first, second)
        (left, right), axes = broadcast_raw((first, second))
        one, two = function(left, right)
        return wrap(one, axes), wrap(two, axes)

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


def astype(array: NamedOrNumeric, dtype: Any) -> Any:
    """The array with its numbers converted to `dtype`."""
    if isinstance(array, NamedArray):
        return array if array.dtype == dtype else wrap(array.array.astype(dtype), array.axes)
    return jnp.asarray(array).astype(dtype)


def around(array: NamedOrNumeric, decimals: int = 0) -> Any:
    """Rounds to so many decimals, elementwise."""
    if isinstance(array, NamedArray):
        return wrap(jnp.round(array.array, decimals), array.axes)
    return jnp.round(array, decimals)


round = around


def rsqrt(array: NamedOrNumeric) -> Any:
    """The reciprocal of the square root, elementwise."""
    return _rsqrt(array)


def _floating_rsqrt(array: Any) -> Any:
    array = jnp.asarray(array)
    return lax.rsqrt(array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.float32))


_rsqrt = unary(_floating_rsqrt)


def frexp(array: NamedOrNumeric) -> Any:
    """The mantissa and the exponent of each element, as a pair."""
    if not isinstance(array, NamedArray):
        return jnp.frexp(array)
    mantissa, exponent = jnp.frexp(array.array)
    return wrap(mantissa, array.axes), wrap(exponent, array.axes)


def ndim(array: NamedOrNumeric) -> int:
    """How many axes there are."""
    return len(array.axes) if isinstance(array, NamedArray) else jnp.ndim(array)


def clip(array: NamedOrNumeric, a_min: NamedOrNumeric | None = None, a_max: NamedOrNumeric | None = None) -> Any:
    """The array with its elements limited to the range, whose ends may be named arrays; None is no limit."""
    if a_min is not None:
        array = maximum(array, a_min)
    return array if a_max is None else minimum(array, a_max)


def where(condition: NamedOrNumeric, x: NamedOrNumeric, y: NamedOrNumeric) -> Any:
    """`x` where the condition holds, else `y`: elementwise, all three broadcast by name.

    Raises:
        AxisError: if none of the three has all axes.
    """
    operands: tuple[Any, ...] = (condition, x, y)
    if not any(isinstance(operand, NamedArray) for operand in operands):
        return jnp.where(*operands)
    raw, axes = broadcast_raw(operands)
    return wrap(jnp.where(*raw), axes)


def isclose(
    a: NamedOrNumeric, b: NamedOrNumeric, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether the elements are equal within a tolerance, elementwise."""
    if not isinstance(a, NamedArray) and not isinstance(b, NamedArray):
        return jnp.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    (left, right), axes = broadcast_raw((a, b))
    return wrap(jnp.isclose(left, right, rtol=rtol, atol=atol, equal_nan=equal_nan), axes)


def numpy_ufunc(array: NamedArray, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    """What `numpy.exp(named)` and `numpy_array + named` do: the function of this module that has the ufunc's name."""
    function = globals().get(ufunc.__name__)
    if method != "__call__" or options or function is None:
        return NotImplemented
    return function(*inputs)
