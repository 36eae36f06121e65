"""The layer of the first Transformers, with biases and layer norms: what ViT and Whisper are made of.

Sources: Vaswani et al., arXiv:1706.03762; norms before the branches: Xiong et al., arXiv:2002.04745.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax.nn as hnn
from haliax import Axis, NamedArray
from haliax.nn.attention import AttentionMask, attend
from levanter.models.parts import initial
from levanter.runtime import rng


class MultiHeadAttention(eqx.Module):
    """Attention of one sequence to itself, or to another: `Keys` is the axis of the places that are attended to."""

    q: hnn.Linear  # [embed] → [heads, head_size]
    k: hnn.Linear  # [embed] → [heads, head_size]
    v: hnn.Linear  # [embed] → [heads, head_size]
    out: hnn.Linear  # [heads, head_size] → [embed]
    HeadSize: Axis = eqx.field(static=True)

    @staticmethod
    def init(
        Embed: Axis, Heads: Axis, scale: float, *, use_bias: bool = True, use_key_bias: bool = True, key: jax.Array
    ) -> MultiHeadAttention:
        """Weights of standard deviation `scale`; a `use_key_bias` of False leaves out that of the keys alone, which no
        softmax can see."""
        HeadSize = Axis("head_size", Embed.size // Heads.size)
        heads = (Heads, HeadSize)
        return MultiHeadAttention(
            q=initial.linear(Embed, heads, scale, rng.named(key, "q"), use_bias=use_bias),
            k=initial.linear(Embed, heads, scale, rng.named(key, "k"), use_bias=use_bias and use_key_bias),
            v=initial.linear(Embed, heads, scale, rng.named(key, "v"), use_bias=use_bias),
            out=initial.linear(heads, Embed, scale, rng.named(key, "out")),
            HeadSize=HeadSize,
        )

    def __call__(self, x: NamedArray, read: NamedArray, Places: str, mask: AttentionMask | None = None) -> NamedArray:
        """x [..., embed] attends to `read` [..., Places, embed] → the axes of x.

        Args:
            Places: the axis of `read` that is attended to; x may have it too, where a sequence attends to itself.
        """
        keys = f"key_{Places}"
        k, v = (layer(read).rename({Places: keys}) for layer in (self.k, self.v))
        scale = 1.0 / math.sqrt(self.HeadSize.size)
        return self.out(attend(self.q(x), k, v, Key=self.HeadSize, KPos=keys, mask=mask, scale=scale))


class PlainMlp(eqx.Module):
    """Two linear maps with a GELU between them."""

    up: hnn.Linear  # [embed] → [mlp]
    down: hnn.Linear  # [mlp] → [embed]

    @staticmethod
    def init(Embed: Axis, Mlp: Axis, scale: float, *, key: jax.Array) -> PlainMlp:
        up = initial.linear(Embed, Mlp, scale, rng.named(key, "up"))
        return PlainMlp(up, initial.linear(Mlp, Embed, scale, rng.named(key, "down")))

    def __call__(self, x: NamedArray) -> NamedArray:
        """x [..., embed] → [..., embed]"""
        return self.down(hnn.gelu(self.up(x), approximate=False))


class EncoderBlock(eqx.Module):
    """One layer in which every place sees every other, and norms come before the branches."""

    attention_norm: hnn.LayerNorm
    attention: MultiHeadAttention
    mlp_norm: hnn.LayerNorm
    mlp: PlainMlp

    def __call__(self, x: NamedArray, Places: str) -> NamedArray:
        """x [..., Places, embed] → the same axes."""
        own = self.attention_norm(x)
        x = x + self.attention(own, own, Places)
        return x + self.mlp(self.mlp_norm(x))


def layer_norm(Embed: Axis, eps: float) -> hnn.LayerNorm:
    """A layer norm with scale and offset, computed in float32."""
    return hnn.LayerNorm.init(Embed, eps=eps, dtype=jnp.float32)
