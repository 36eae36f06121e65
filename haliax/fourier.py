"""Fourier transforms along a named axis.

`axis` is the axis to transform; given as an `Axis` with another size, the input is cut or padded to that size. The
transforms between real and complex numbers change the size as in `jnp.fft`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from haliax.array import NamedArray, wrap
from haliax.axis import Axis, AxisSelection, AxisSelector, find, names_of
from haliax.reduce import positions


def _transform(function: Callable[..., Any]) -> Callable[..., NamedArray]:
    name = function.__name__

    def transformed(array: NamedArray, axis: AxisSelector, norm: str | None = None) -> NamedArray:
        position = find(array.axes, names_of(axis)[0], array)
        size = axis.size if isinstance(axis, Axis) and axis.size != array.axes[position].size else None
        raw = function(array.array, n=size, axis=position, norm=norm)
        new = array.axes[position].resize(raw.shape[position])
        return wrap(raw, (*array.axes[:position], new, *array.axes[position + 1 :]))

    transformed.__name__ = transformed.__qualname__ = name
    transformed.__doc__ = f"`jnp.fft.{name}` along the axis.\n\nRaises:\n    AxisError: if the array lacks the axis."
    return transformed


fft = _transform(jnp.fft.fft)
hfft = _transform(jnp.fft.hfft)
ifft = _transform(jnp.fft.ifft)
ihfft = _transform(jnp.fft.ihfft)
irfft = _transform(jnp.fft.irfft)
rfft = _transform(jnp.fft.rfft)


def fftfreq(axis: Axis, d: float = 1.0) -> NamedArray:
    """The frequencies of `fft` along the axis, for samples `d` apart."""
    return wrap(jnp.fft.fftfreq(axis.size, d), (axis,))


def rfftfreq(axis: Axis, d: float = 1.0) -> NamedArray:
    """The frequencies of `rfft` of an axis of this size, for samples `d` apart."""
    raw = jnp.fft.rfftfreq(axis.size, d)
    return wrap(raw, (axis.resize(raw.shape[0]),))


def fftshift(array: NamedArray, axis: AxisSelection | None = None) -> NamedArray:
    """The array with frequency zero in the middle of the axes (all by default)."""
    return wrap(jnp.fft.fftshift(array.array, positions(array, axis)), array.axes)


def ifftshift(array: NamedArray, axis: AxisSelection | None = None) -> NamedArray:
    """The array as it was before `fftshift`."""
    return wrap(jnp.fft.ifftshift(array.array, positions(array, axis)), array.axes)
