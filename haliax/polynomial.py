"""Polynomials: vectors of coefficients, highest power first, as in `jnp`.

The result's axis has the name of the first operand's axis and the size that the operation gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from haliax import errors
from haliax.array import NamedArray, wrap
from haliax.axis import Axis, AxisSelector
from haliax.typing import NamedOrNumeric


def _vector(function: str, operand: NamedOrNumeric) -> Any:
    if isinstance(operand, NamedArray):
        if len(operand.axes) != 1:
            raise errors.not_a_vector(function, operand)
        return operand.array
    return jnp.atleast_1d(jnp.asarray(operand))


def _like(raw: Any, *operands: NamedOrNumeric) -> Any:
    """The raw vector with the name of the axis of the first NamedArray."""
    for operand in operands:
        if isinstance(operand, NamedArray):
            return wrap(raw, (operand.axes[0].resize(raw.shape[0]),))
    return raw


def _pairwise(function: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__name__

    def combined(a1: NamedOrNumeric, a2: NamedOrNumeric) -> Any:
        result = function(_vector(name, a1), _vector(name, a2))
        return tuple(_like(part, a1, a2) for part in result) if isinstance(result, tuple) else _like(result, a1, a2)

    combined.__name__ = combined.__qualname__ = name
    combined.__doc__ = f"`jnp.{name}` of two vectors of coefficients."
    return combined


polyadd = _pairwise(jnp.polyadd)
polydiv = _pairwise(jnp.polydiv)
polymul = _pairwise(jnp.polymul)
polysub = _pairwise(jnp.polysub)


def poly(array: NamedArray) -> NamedArray:
    """The coefficients of the polynomial with these roots."""
    return _like(jnp.poly(_vector("poly", array)), array)


def polyder(p: NamedArray, m: int = 1) -> NamedArray:
    """The coefficients of the `m`th derivative."""
    return _like(jnp.polyder(_vector("polyder", p), m), p)


def polyint(p: NamedArray, m: int = 1, k: Any = None) -> NamedArray:
    """The coefficients of the `m`th integral, with the constants `k` (zero by default)."""
    return _like(jnp.polyint(_vector("polyint", p), m, k), p)


def polyval(p: NamedOrNumeric, x: NamedOrNumeric) -> Any:
    """The polynomial's values at `x`, with the axes of `x`."""
    coefficients = _vector("polyval", p)
    if isinstance(x, NamedArray):
        return wrap(jnp.polyval(coefficients, x.array), x.axes)
    return jnp.polyval(coefficients, x)


def polyfit(x: NamedArray, y: NamedArray, deg: int, rcond: float | None = None) -> NamedArray:
    """The coefficients, along `x`'s axis at size `deg + 1`, of the polynomial that fits the points best."""
    return _like(jnp.polyfit(_vector("polyfit", x), _vector("polyfit", y), deg, rcond), x)


def roots(p: NamedArray, *, strip_zeros: bool = True) -> NamedArray:
    """The roots of the polynomial. `strip_zeros=False` to use it under `jit`."""
    return _like(jnp.roots(_vector("roots", p), strip_zeros=strip_zeros), p)


def trim_zeros(array: NamedArray, trim: str = "fb") -> NamedArray:
    """The vector without zeros at its front and back. Not under `jit`."""
    return _like(jnp.trim_zeros(_vector("trim_zeros", array), trim), array)


def vander(x: NamedArray, degree: AxisSelector, increasing: bool = False) -> NamedArray:
    """The powers of each element along the new last axis `degree`; as many as elements if only a name is given."""
    raw = _vector("vander", x)
    new = Axis(degree, raw.shape[0]) if isinstance(degree, str) else degree
    return wrap(jnp.vander(raw, new.size, increasing), (x.axes[0], new))
