"""Normalization layers."""

from __future__ import annotations

from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jax import lax

from haliax.align import aligned
from haliax.array import NamedArray, wrap
from haliax.axis import AxisSpec
from haliax.create import ones, zeros
from haliax.reduce import positions

Self = TypeVar("Self", bound="LayerNormBase")


class LayerNormBase(eqx.Module):
    """What normalization layers share: the axes, a scale and an offset along them, and the epsilon."""

    axis: AxisSpec = eqx.field(static=True)
    weight: NamedArray | None
    bias: NamedArray | None
    eps: float = eqx.field(static=True, default=1e-5)
    dtype: Any = eqx.field(static=True, default=None)

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
            dtype: to compute in; by default that of the input.
        """
        return cls(axis, ones(axis) if use_weight else None, zeros(axis) if use_bias else None, eps, dtype)

    def _computed(self, x: NamedArray) -> NamedArray:
        return x if self.dtype is None else x.astype(self.dtype)

    def _scaled(self, normalized: Any, x: NamedArray, result_dtype: Any) -> NamedArray:
        if self.weight is not None:
            normalized = normalized * aligned(self.weight, x.axes)
        if self.bias is not None:
            normalized = normalized + aligned(self.bias, x.axes)
        return wrap(normalized if self.dtype is None else normalized.astype(result_dtype), x.axes)


class LayerNorm(LayerNormBase):
    """Shifts and scales to mean 0 and variance 1 over the axes, then applies scale and offset."""

    def __call__(self, x: NamedArray) -> NamedArray:
        """The normalized `x`, with its axes.

        Raises:
            AxisError: if `x` lacks the axes.
        """
        own = self._computed(x)
        over = positions(own, self.axis)
        shifted = own.array - jnp.mean(own.array, axis=over, keepdims=True)
        variance = jnp.mean(jnp.square(shifted), axis=over, keepdims=True)
        return self._scaled(shifted * lax.rsqrt(variance + self.eps), own, x.dtype)


class RmsNorm(LayerNormBase):
    """Scales to mean square 1 over the axes, then applies scale and offset."""

    def __call__(self, x: NamedArray) -> NamedArray:
        """The normalized `x`, with its axes.

        Raises:
            AxisError: if `x` lacks the axes.
        """
        own = self._computed(x)
        over = positions(own, self.axis)
        mean_square = jnp.mean(jnp.square(own.array), axis=over, keepdims=True)
        return self._scaled(own.array * lax.rsqrt(mean_square + self.eps), own, x.dtype)
