"""Convolutions over named spatial axes.

All axes of the input beyond the spatial ones and `In` are batch axes. The output has the axes of the input in their
order, with `Out` where `In` stood and the spatial axes at their new sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from haliax import errors, random
from haliax.axis import Axis, AxisSelection, axes_of, find, names_of, replace_axis
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import on_any_mesh
from haliax.nn._inputs import require
from haliax.ops.shape import flatten_others, reordered

Sizes = int | Sequence[int]
"""A number for all spatial axes, or one for each."""
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]
"""`"SAME"`, `"VALID"`, or zeros on both sides: a number for all spatial axes, one for each, or (before, after)."""
_BATCH = "__batch__"


class _ConvBase(eqx.Module):
    """What convolutions share. The weight has the axes `Out`, `In` (of one group), and the spatial ones."""

    Spatial: tuple[str, ...] = eqx.field(static=True)
    In: Axis = eqx.field(static=True)
    Out: Axis = eqx.field(static=True)
    weight: NamedArray
    bias: NamedArray | None
    kernel_size: tuple[int, ...] = eqx.field(static=True)
    stride: tuple[int, ...] = eqx.field(static=True)
    padding: tuple[tuple[int, int], ...] | str = eqx.field(static=True)

    @on_any_mesh
    def _apply(self, inputs: NamedArray, **options: Any) -> NamedArray:
        """One `conv_general_dilated` on the axes where they stand, and the bias."""
        require(type(self).__name__, "inputs", inputs, (*self.Spatial, self.In), In=self.In, Out=self.Out)
        flat, unflatten = flatten_others(inputs, (*self.Spatial, self.In.name), _BATCH)
        layout = tuple(find(flat.axes, name) for name in (_BATCH, self.In.name, *self.Spatial))
        kernel = tuple(range(len(self.Spatial) + 2))
        raw = lax.conv_general_dilated(
            flat.array,
            self.weight.array.astype(flat.dtype),
            dimension_numbers=lax.ConvDimensionNumbers(layout, kernel, layout),
            **options,
        )
        renamed = axes_of(replace_axis(flat.axes, self.In, self.Out))
        axes = tuple(axis.resize(size) for axis, size in zip(renamed, raw.shape, strict=True))
        order = [self.Out.name if axis.name == self.In.name else axis.name for axis in inputs.axes]
        output = reordered(unflatten(wrap(raw, axes)), order)
        return output if self.bias is None else output + self.bias.astype(output.dtype)


class Conv(_ConvBase):
    """A convolution (without flipping the kernel) from the axis `In` to the axis `Out`, over the spatial axes.

    The weight has the axes `Out`, `In` (of one group) and the spatial ones at the size of the kernel; the bias has
    `Out`.

    >>> Rgb, Channels = hax.make_axes(rgb=3, channels=8)
    >>> conv = hax.nn.Conv.init(("height", "width"), Rgb, Channels, kernel_size=3, padding=1, key=jax.random.key(0))
    >>> conv(hax.ones({"batch": 2, "rgb": 3, "height": 5, "width": 6})).shape
    {'batch': 2, 'channels': 8, 'height': 5, 'width': 6}
    """

    dilation: tuple[int, ...] = eqx.field(static=True)
    groups: int = eqx.field(static=True, default=1)

    @staticmethod
    def init(
        Spatial: AxisSelection,
        In: Axis,
        Out: Axis,
        kernel_size: Sizes,
        *,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        use_bias: bool = True,
        key: jax.Array,
    ) -> Conv:
        """A layer with weights uniform in ±1/sqrt(inputs of one output), and bias likewise.

        Args:
            Spatial: the axes to convolve over; only their names count.
            In: the input channels.
            Out: the output channels.
            kernel_size: for all spatial axes, or for each.
            stride: how far the kernel moves.
            padding: "SAME", "VALID", or how many zeros to put on both sides (or before and after).
            dilation: how far apart the elements of the kernel are.
            groups: into how many independent parts the channels are cut.
            use_bias: whether there is a bias.
            key: a random key.

        Raises:
            AxisError: if the channels do not divide by `groups`.
        """
        names = names_of(Spatial)
        kernel = _for_each(kernel_size, names)
        weight, bias = _parameters(names, _one_group(In, Out, groups), Out, kernel, use_bias, key)
        strides, pads, dilations = _for_each(stride, names), _padding(padding, names), _for_each(dilation, names)
        return Conv(names, In, Out, weight, bias, kernel, strides, pads, dilations, groups)

    def __call__(self, inputs: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """The convolution of the inputs.

        Raises:
            AxisError: if the inputs lack `In` or a spatial axis.
        """
        return self._apply(
            inputs,
            window_strides=self.stride,
            padding=self.padding,
            rhs_dilation=self.dilation,
            feature_group_count=self.groups,
        )


class ConvTranspose(_ConvBase):
    """The transpose of a convolution: it makes the spatial axes longer by the stride."""

    output_padding: tuple[int, ...] = eqx.field(static=True)
    dilation: tuple[int, ...] = eqx.field(static=True)
    groups: int = eqx.field(static=True, default=1)

    @staticmethod
    def init(
        Spatial: AxisSelection,
        In: Axis,
        Out: Axis,
        kernel_size: Sizes,
        *,
        stride: Sizes = 1,
        padding: Padding = 0,
        output_padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        use_bias: bool = True,
        key: jax.Array,
    ) -> ConvTranspose:
        """A layer; the arguments are those of `Conv.init`, and `output_padding` makes the result longer at its end."""
        names = names_of(Spatial)
        kernel = _for_each(kernel_size, names)
        weight, bias = _parameters(names, _one_group(In, Out, groups), Out, kernel, use_bias, key)
        strides, pads, dilations = _for_each(stride, names), _padding(padding, names), _for_each(dilation, names)
        extra = _for_each(output_padding, names)
        return ConvTranspose(names, In, Out, weight, bias, kernel, strides, pads, extra, dilations, groups)

    def __call__(self, inputs: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """The transposed convolution of the inputs.

        Raises:
            AxisError: if the inputs lack `In` or a spatial axis.
        """
        padding: Any = self.padding
        if not isinstance(padding, str):
            spans = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True)]
            rows = zip(spans, padding, self.output_padding, strict=True)
            padding = [(span - before, span - after + extra) for span, (before, after), extra in rows]
        ones = (1,) * len(self.Spatial)
        return self._apply(
            inputs,
            window_strides=ones,
            padding=padding,
            lhs_dilation=self.stride,
            rhs_dilation=self.dilation,
            feature_group_count=self.groups,
        )


def _one_group(In: Axis, Out: Axis, groups: int) -> Axis:
    """The input channels of one group."""
    for axis in (In, Out):
        if axis.size % groups:
            raise errors.not_divisible(f"axis `{axis.name}`", axis.size, groups)
    return In.resize(In.size // groups)


def _parameters(
    names: tuple[str, ...], In: Axis, Out: Axis, kernel: tuple[int, ...], use_bias: bool, key: jax.Array
) -> tuple[NamedArray, NamedArray | None]:
    window = tuple(Axis(name, size) for name, size in zip(names, kernel, strict=True))
    limit = 1 / math.sqrt(max(1, In.size * math.prod(kernel)))
    weight_key, bias_key = jax.random.split(key)
    weight = random.uniform(weight_key, (Out, In, *window), jnp.float32, -limit, limit)
    return weight, random.uniform(bias_key, Out, jnp.float32, -limit, limit) if use_bias else None


def _for_each(value: Sizes, names: tuple[str, ...]) -> tuple[int, ...]:
    values = (value,) * len(names) if isinstance(value, int) else tuple(value)
    if len(values) != len(names):
        raise errors.one_for_each_axis(values, names)
    return values


def _padding(padding: Padding, names: tuple[str, ...]) -> tuple[tuple[int, int], ...] | str:
    if isinstance(padding, str):
        return padding.upper()
    if isinstance(padding, int):
        return ((padding, padding),) * len(names)
    if len(padding) != len(names):
        raise errors.one_for_each_axis(padding, names)
    return tuple((pad, pad) if isinstance(pad, int) else (pad[0], pad[1]) for pad in padding)
