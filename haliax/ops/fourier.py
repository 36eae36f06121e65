"""Fourier transforms along named axes.

`axis` says what to transform: None is the last axis; a name or a sequence of names these axes; an `Axis` also the
length, to which the input is cut or padded before; a mapping from axes to lengths (None for the length as it is, an
`Axis` for a length and a new name) transforms several axes in its order. Several axes are one n-dimensional transform.
The transforms between real and complex numbers change the length of the last of them as in `jnp.fft`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from haliax import errors
from haliax.axis import Axis, AxisSelection, ensure_tuple, find, names_of
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import on_any_mesh
from haliax.ops.reduce import positions


def _targets(array: NamedArray, axis: Any) -> list[tuple[int, int | None, str]]:
    """Of each axis to transform its position, the length (None as it is) and the name that it gets."""
    if axis is None:
        return [(len(array.axes) - 1, None, array.axes[-1].name)]
    items = axis.items() if isinstance(axis, Mapping) else [(selector, None) for selector in ensure_tuple(axis)]
    targets = []
    for selector, wanted in items:
        (name,) = names_of(selector)
        position = find(array.axes, name, array)
        own = array.axes[position].size
        if isinstance(wanted, Axis):
            targets.append((position, wanted.size, wanted.name))
        elif wanted is not None:
            targets.append((position, int(wanted), name))
        else:
            size = selector.size if isinstance(selector, Axis) and selector.size != own else None
            targets.append((position, size, name))
    return targets


def _transform(function: Callable[..., Any], several: Callable[..., Any] | None = None) -> Callable[..., NamedArray]:
    """The transform for named arrays; `several` is its n-dimensional form, if there is one."""
    name = function.__name__

    @on_any_mesh
    def transformed(a: NamedArray, axis: Any = None, norm: str | None = None) -> NamedArray:
        targets = _targets(a, axis)
        places = [place for place, _, _ in targets]
        sizes = [size for _, size, _ in targets]
        if len(targets) == 1:
            raw = function(a.array, n=sizes[0], axis=places[0], norm=norm)
        elif several is None:
            raise errors.only_one_axis(name, [a.axes[place] for place in places])
        else:
            raw = several(a.array, s=_lengths(name, a, places, sizes), axes=places, norm=norm)
        axes = list(a.axes)
        for place, _, new_name in targets:
            axes[place] = Axis(new_name, raw.shape[place])
        return wrap(raw, tuple(axes))

    transformed.__name__ = transformed.__qualname__ = name
    transformed.__doc__ = f"""`jnp.fft.{name}` along {"the axis" if several is None else "one or several axes"}.

    Args:
        a: a NamedArray.
        axis: what to transform; see `haliax.ops.fourier`.
        norm: as in `jnp.fft`.

    Raises:
        AxisError: if the array lacks the axis{", or for several axes" if several is None else ""}.
    """
    return transformed


def _lengths(function: str, array: NamedArray, places: list[int], sizes: list[int | None]) -> list[int] | None:
    """The lengths of an n-dimensional transform, which `jnp` wants for all axes or for none."""
    if all(size is None for size in sizes):
        return None
    own = [array.axes[place].size for place in places]
    if function == "irfft":
        own[-1] = 2 * (own[-1] - 1)
    return [old if size is None else size for old, size in zip(own, sizes, strict=True)]


fft = _transform(jnp.fft.fft, jnp.fft.fftn)
hfft = _transform(jnp.fft.hfft)
ifft = _transform(jnp.fft.ifft, jnp.fft.ifftn)
ihfft = _transform(jnp.fft.ihfft)
irfft = _transform(jnp.fft.irfft, jnp.fft.irfftn)
rfft = _transform(jnp.fft.rfft, jnp.fft.rfftn)


def fftfreq(axis: Axis, d: float = 1.0) -> NamedArray:
    """The frequencies of `fft` along the axis, for samples `d` apart."""
    return wrap(jnp.fft.fftfreq(axis.size, d), (axis,))


def rfftfreq(axis: Axis, d: float = 1.0) -> NamedArray:
    """The frequencies of `rfft` of an axis of this size, for samples `d` apart."""
    raw = jnp.fft.rfftfreq(axis.size, d)
    return wrap(raw, (axis.resize(raw.shape[0]),))


@on_any_mesh
def fftshift(x: NamedArray, axes: AxisSelection | None = None) -> NamedArray:
    """The array with frequency zero in the middle of the axes (all by default)."""
    return wrap(jnp.fft.fftshift(x.array, positions(x, axes)), x.axes)


@on_any_mesh
def ifftshift(x: NamedArray, axes: AxisSelection | None = None) -> NamedArray:
    """The array as it was before `fftshift`."""
    return wrap(jnp.fft.ifftshift(x.array, positions(x, axes)), x.axes)
