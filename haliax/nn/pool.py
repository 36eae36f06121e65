"""Pooling over named windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from haliax import errors
from haliax.axis import AxisSpec, axes_of, find, names_of
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import on_any_mesh
from haliax.nn._inputs import require

Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]
"""`"SAME"`, `"VALID"`, or elements on both sides: a number for all axes, one for each, or (before, after)."""


@on_any_mesh
def pool(
    Window: AxisSpec,
    inputs: NamedArray,
    init: Any,
    reduce_fn: Callable[..., Any],
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    use_ceil: bool = False,
) -> NamedArray:
    """`reduce_fn` of each window, along the axes of `Window`, which become shorter.

    Args:
        Window: the axes to pool over, at the sizes of the window.
        inputs: a NamedArray with these axes, at any size.
        init: what `reduce_fn` starts from.
        reduce_fn: of two elements, such as `jax.lax.max`.
        stride: how far the window moves along each axis; 1 by default.
        padding: "SAME", "VALID" (none), or how many elements to put on both sides (or before and after).
        use_ceil: whether a last window that is not full counts.

    Raises:
        AxisError: if the inputs lack an axis.
    """
    window = axes_of(Window)
    require("pool", "inputs", inputs, names_of(Window), Window=Window)
    sizes = [1] * inputs.ndim
    strides, pads = list(sizes), [(0, 0)] * inputs.ndim
    given = _strides(stride, window)
    for axis, step in zip(window, given, strict=True):
        position = find(inputs.axes, axis.name, inputs)
        sizes[position], strides[position] = axis.size, step
    if isinstance(padding, str):
        pads = lax.padtype_to_pads([axis.size for axis in inputs.axes], sizes, strides, padding.upper())
    else:
        each = [padding] * len(window) if isinstance(padding, int) else list(padding)
        if len(each) != len(window):
            raise errors.one_for_each_axis(each, [axis.name for axis in window])
        for axis, pad in zip(window, each, strict=True):
            pads[find(inputs.axes, axis.name)] = (pad, pad) if isinstance(pad, int) else (pad[0], pad[1])
    if use_ceil:
        pads = [
            (before, after + -(axis.size + before + after - size) % step)
            for axis, size, step, (before, after) in zip(inputs.axes, sizes, strides, pads, strict=True)
        ]
    raw = lax.reduce_window(inputs.array, init, reduce_fn, tuple(sizes), tuple(strides), tuple(pads))
    return wrap(raw, tuple(axis.resize(size) for axis, size in zip(inputs.axes, raw.shape, strict=True)))


def _strides(stride: int | Sequence[int] | None, window: Sequence[Any]) -> list[int]:
    if stride is None:
        return [1] * len(window)
    given = [stride] * len(window) if isinstance(stride, int) else list(stride)
    if len(given) != len(window):
        raise errors.one_for_each_axis(given, [axis.name for axis in window])
    return given


def max_pool(
    Window: AxisSpec,
    inputs: NamedArray,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    use_ceil: bool = False,
) -> NamedArray:
    """The largest element of each window; see `pool`.

    >>> hax.nn.max_pool(hax.Axis("position", 2), hax.named([1.0, 4.0, 2.0, 3.0], "position"), stride=2)
    f32[position=2] [4. 3.]
    """
    return pool(Window, inputs, _lowest(inputs.dtype), lax.max, stride, padding, use_ceil)


def min_pool(
    Window: AxisSpec,
    inputs: NamedArray,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    use_ceil: bool = False,
) -> NamedArray:
    """The smallest element of each window; see `pool`."""
    return pool(Window, inputs, _highest(inputs.dtype), lax.min, stride, padding, use_ceil)


def mean_pool(
    Window: AxisSpec,
    inputs: NamedArray,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    *,
    use_ceil: bool = False,
    count_include_pad: bool = False,
) -> NamedArray:
    """The mean of each window; see `pool`. `count_include_pad`: whether the zeros around the input count."""
    total = pool(Window, inputs, 0.0, lax.add, stride, padding, use_ceil)
    if count_include_pad:
        count: Any = 1
        for axis in axes_of(Window):
            count *= axis.size
        return total / count
    ones = wrap(jnp.ones_like(inputs.array), inputs.axes)
    return total / pool(Window, ones, 0.0, lax.add, stride, padding, use_ceil)


def _lowest(dtype: Any) -> Any:
    return -jnp.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min


def _highest(dtype: Any) -> Any:
    return jnp.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).max
