"""Polynomials: vectors of coefficients, highest power first, as in `jnp`.

The result's axis has the name of the first NamedArray's axis, or `degree` if there is none, and the size that the
operation gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from haliax import errors
from haliax.axis import Axis, AxisSelector
from haliax.core.array import NamedArray, raw_array_or_scalar, wrap
from haliax.core.explicit import on_any_mesh
from haliax.typing import NamedOrNumeric


def _vector(function: str, operand: NamedOrNumeric) -> Any:
    if isinstance(operand, NamedArray):
        if len(operand.axes) != 1:
            raise errors.not_a_vector(function, operand)
        return operand.array
    return jnp.atleast_1d(jnp.asarray(operand))


def _like(raw: Any, *operands: NamedOrNumeric) -> NamedArray:
    """The raw vector with the name of the axis of the first NamedArray."""
    names = [operand.axes[0].name for operand in operands if isinstance(operand, NamedArray) and operand.axes]
    return wrap(raw, (Axis(names[0] if names else "degree", raw.shape[0]),))


def _pairwise(function: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__name__

    @on_any_mesh
    def combined(p1: NamedOrNumeric, p2: NamedOrNumeric) -> Any:
        result = function(_vector(name, p1), _vector(name, p2))
        return tuple(_like(part, p1, p2) for part in result) if isinstance(result, tuple) else _like(result, p1, p2)

    combined.__name__ = combined.__qualname__ = name
    combined.__doc__ = f"`jnp.{name}` of two vectors of coefficients, highest power first."
    return combined


polyadd = _pairwise(jnp.polyadd)
polydiv = _pairwise(jnp.polydiv)
polymul = _pairwise(jnp.polymul)
polysub = _pairwise(jnp.polysub)


@on_any_mesh
def poly(seq_of_zeros: NamedOrNumeric) -> NamedArray:
    """The coefficients of the polynomial with these roots."""
    return _like(jnp.poly(_vector("poly", seq_of_zeros)), seq_of_zeros)


@on_any_mesh
def polyder(p: NamedOrNumeric, m: int = 1) -> NamedArray:
    """The coefficients of the `m`th derivative."""
    return _like(jnp.polyder(_vector("polyder", p), m), p)


@on_any_mesh
def polyint(p: NamedOrNumeric, m: int = 1, k: NamedOrNumeric | None = None) -> NamedArray:
    """The coefficients of the `m`th integral, with the constants `k` (zero by default).

    Args:
        p: the coefficients, highest power first.
        m: how often to integrate.
        k: a constant for each time.
    """
    return _like(jnp.polyint(_vector("polyint", p), m, raw_array_or_scalar(k)), p)


@on_any_mesh
def polyval(p: NamedOrNumeric, x: NamedOrNumeric) -> Any:
    """The polynomial's values at `x`, with the axes of `x`.

    >>> hax.polyval(hax.named([1, 0, 2], "power"), hax.arange(hax.Axis("position", 3)))
    i32[position=3] [2 3 6]
    """
    coefficients = _vector("polyval", p)
    if isinstance(x, NamedArray):
        return wrap(jnp.polyval(coefficients, x.array), x.axes)
    return jnp.polyval(coefficients, x)


@on_any_mesh
def polyfit(
    x: NamedOrNumeric,
    y: NamedOrNumeric,
    deg: int,
    rcond: float | None = None,
    full: bool = False,
    w: NamedOrNumeric | None = None,
    cov: bool = False,
) -> Any:
    """The coefficients, along `x`'s axis at size `deg + 1`, of the polynomial that fits the points best.

    Args:
        x: where the points are; a vector.
        y: the values there; a vector.
        deg: the degree of the polynomial.
        rcond: singular values smaller than this, relative to the largest, count as zero.
        full: whether to give also the residuals, the rank, the singular values and `rcond`, as raw arrays.
        w: the weights of the points.
        cov: whether to give also the covariance of the coefficients; its second axis is called `…_cov`.

    Raises:
        AxisError: if `x` or `y` is not a vector.
    """
    points, values = _vector("polyfit", x), _vector("polyfit", y)
    found = jnp.polyfit(points, values, deg, rcond, full, raw_array_or_scalar(w), cov)
    if full:
        return _like(found[0], x, y), *found[1:]
    if cov:
        coefficients = _like(found[0], x, y)
        axis = coefficients.axes[0]
        return coefficients, wrap(found[1], (axis, axis.alias(f"{axis.name}_cov")))
    return _like(found, x, y)


@on_any_mesh
def roots(p: NamedOrNumeric, *, strip_zeros: bool = True) -> NamedArray:
    """The roots of the polynomial. `strip_zeros=False` to use it under `jit`."""
    return _like(jnp.roots(_vector("roots", p), strip_zeros=strip_zeros), p)


@on_any_mesh
def trim_zeros(f: NamedOrNumeric, trim: str = "fb") -> NamedArray:
    """The vector without zeros at its front and back. Not under `jit`."""
    return _like(jnp.trim_zeros(_vector("trim_zeros", f), trim), f)


@on_any_mesh
def vander(x: NamedArray, degree: AxisSelector, increasing: bool = False) -> NamedArray:
    """The powers of each element along the new last axis `degree`; as many as elements if only a name is given.

    Args:
        x: a vector.
        degree: the new axis, whose size is the number of powers.
        increasing: whether the lowest power is first.
    """
    raw = _vector("vander", x)
    new = Axis(degree, raw.shape[0]) if isinstance(degree, str) else degree
    return wrap(jnp.vander(raw, new.size, increasing), (x.axes[0], new))
