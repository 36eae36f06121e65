"""Norms beside those of `haliax.nn`."""

from __future__ import annotations

import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import AxisSpec, NamedArray


def rms_norm(axis: AxisSpec, eps: float) -> hnn.RmsNorm:
    """The norm of LLaMA and most since (Zhang and Sennrich, 2019, arXiv:1910.07467), computed in float32."""
    return hnn.RmsNorm.init(axis, eps=eps, use_bias=False, dtype=jnp.float32)


class OffsetRmsNorm(hnn.RmsNorm):
    """The norm of Gemma: its scale is 1 + `weight`, so that weight decay pulls it to 1 and not to 0."""

    def __call__(self, x: NamedArray) -> NamedArray:
        """The normalized `x`, with its axes and dtype."""
        assert self.weight is not None
        own = x.astype(jnp.float32)
        size = hax.mean(hax.square(own), axis=self.axis) + self.eps
        scaled = own * hax.rsqrt(size) * (1.0 + self.weight.astype(jnp.float32))
        return scaled.rearrange(x.axes).astype(x.dtype)


def offset_rms_norm(axis: AxisSpec, eps: float) -> OffsetRmsNorm:
    """The norm of Gemma, with weight 0."""
    return OffsetRmsNorm(axis, hax.zeros(axis), None, eps, jnp.float32)
