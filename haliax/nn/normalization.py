"""Normalization layers."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jax import lax

from haliax.axis import Axis, AxisSpec, axes_of
from haliax.core.array import NamedArray, unchecked
from haliax.core.explicit import on_any_mesh
from haliax.nn._inputs import require
from haliax.ops.align import aligned
from haliax.ops.create import ones, zeros
from haliax.ops.reduce import positions
from haliax.ops.shape import flatten_axes, unflatten_axis
from haliax.state_dict import ModuleWithStateDictSerialization

Self = TypeVar("Self", bound="LayerNormBase")
FLAT = "__OUT"
"""What the merged axes of a layer are called in the shape that it has outside."""


class LayerNormBase(ModuleWithStateDictSerialization):
    """What normalization layers share: the axes, a scale and an offset along them, and the epsilon."""

    axis: AxisSpec = eqx.field(static=True)
    """The axes to normalize over."""
    weight: NamedArray | None
    """The scale, with the axes `axis`."""
    bias: NamedArray | None
    """The offset, with the axes `axis`."""
    eps: float = eqx.field(static=True, default=1e-5)
    """Added to the variance."""
    dtype: Any = eqx.field(static=True, default=None)
    """What to compute in; None for the dtype of the input."""

    @classmethod
    def init(
        cls: type[Self],
        axis: AxisSpec,
        eps: float = 1e-5,
        *,
        use_weight: bool = True,
        use_bias: bool = True,
        dtype: Any = None,
    ) -> Self:
        """A layer with scale 1 and offset 0.

        Args:
            axis: the axes to normalize over.
            eps: added to the variance.
            use_weight: whether there is a scale.
            use_bias: whether there is an offset.
            dtype: to compute in; by default that of the input. The result has the dtype that `jnp` would promote the
                input, the scale and the offset to.
        """
        return cls(axis, ones(axis) if use_weight else None, zeros(axis) if use_bias else None, eps, dtype)

    @abstractmethod
    def __call__(self, x: NamedArray) -> NamedArray:
        """The normalized `x`, with its axes."""

    def flatten_for_export(self: Self) -> Self:
        """The layer with one axis, `__OUT`, in the place of several; one `Axis` alone stays."""
        axes = axes_of(self.axis)
        if isinstance(self.axis, Axis) or not axes:
            return self
        weight, bias = (None if x is None else flatten_axes(x, axes, FLAT) for x in (self.weight, self.bias))
        size = math.prod(axis.size for axis in axes)
        return dataclasses.replace(self, axis=Axis(FLAT, size), weight=weight, bias=bias)

    def unflatten_from_export(self: Self, template: Self) -> Self:
        """The layer with the axes of `template`."""
        axes = axes_of(template.axis)
        if isinstance(template.axis, Axis) or not axes:
            return self
        weight, bias = (None if x is None else unflatten_axis(x, FLAT, axes) for x in (self.weight, self.bias))
        return dataclasses.replace(self, axis=template.axis, weight=weight, bias=bias)

    def _computed(self, x: NamedArray) -> NamedArray:
        require(type(self).__name__, "x", x, axes_of(self.axis), axis=self.axis)
        return x if self.dtype is None else x.astype(self.dtype)

    def _scaled(self, normalized: Any, x: NamedArray) -> NamedArray:
        if self.weight is not None:
            normalized = normalized * aligned(self.weight, x.axes)
        if self.bias is not None:
            normalized = normalized + aligned(self.bias, x.axes)
        if self.dtype is None:
            return unchecked(normalized, x.axes)
        parameters = [p.dtype for p in (self.weight, self.bias) if p is not None]
        return unchecked(normalized.astype(jnp.result_type(x.dtype, *parameters)), x.axes)


class LayerNorm(LayerNormBase):
    """Shifts and scales to mean 0 and variance 1 over the axes, then applies scale and offset.

    >>> norm = hax.nn.LayerNorm.init(hax.Axis("embed", 2))
    >>> norm(hax.named([[1.0, 3.0], [10.0, 30.0]], ("batch", "embed")))
    f32[batch=2, embed=2] [[-1. 1.] [-1. 1.]]
    """

    @on_any_mesh
    def __call__(self, x: NamedArray) -> NamedArray:
        """The normalized `x`, with its axes.

        Raises:
            AxisError: if `x` lacks the axes.
        """
        own = self._computed(x)
        over = positions(own, self.axis)
        shifted = own.array - jnp.mean(own.array, axis=over, keepdims=True)
        variance = jnp.mean(jnp.square(shifted), axis=over, keepdims=True)
        return self._scaled(shifted * lax.rsqrt(variance + self.eps), x)


class RmsNorm(LayerNormBase):
    """Scales to mean square 1 over the axes, then applies scale and offset."""

    @on_any_mesh
    def __call__(self, x: NamedArray) -> NamedArray:
        """The normalized `x`, with its axes.

        Raises:
            AxisError: if `x` lacks the axes.
        """
        own = self._computed(x)
        over = positions(own, self.axis)
        mean_square = jnp.mean(jnp.square(own.array), axis=over, keepdims=True)
        return self._scaled(own.array * lax.rsqrt(mean_square + self.eps), x)
