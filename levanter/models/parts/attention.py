"""Attention with grouped queries and rotary positions.

Sources: Vaswani et al., arXiv:1706.03762; grouped queries: Ainslie et al., arXiv:2305.13245; norms of queries and keys:
Dehghani et al., arXiv:2302.05442.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax

import haliax.nn as hnn
from haliax import Axis, NamedArray
from haliax.nn.attention import attend
from levanter.models.parts import initial
from levanter.models.parts.cache import Cache
from levanter.models.parts.places import Places
from levanter.models.parts.rotary import Rotation
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.parts.config import DecoderConfig


class Attention(eqx.Module):
    """Causal self-attention: `group` heads of queries share one head of keys and values."""

    q: hnn.Linear  # [embed] → [kv_heads, group, head_size]
    k: hnn.Linear  # [embed] → [kv_heads, head_size]
    v: hnn.Linear  # [embed] → [kv_heads, head_size]
    out: hnn.Linear  # [kv_heads, group, head_size] → [embed]
    q_norm: Any  # over head_size, or over all of a position's query; None where there is none
    k_norm: Any
    HeadSize: Axis = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    softcap: float | None = eqx.field(static=True)

    @staticmethod
    def init(
        config: DecoderConfig,
        *,
        key: jax.Array,
        use_bias: bool = False,
        use_out_bias: bool = False,
        norms: tuple[Any, Any] = (None, None),
        scale: float | None = None,
        softcap: float | None = None,
    ) -> Attention:
        """Args:
        use_bias: of queries, keys and values.
        use_out_bias: of the output.
        norms: of the queries and of the keys, before they are turned.
        scale: on the scores; None means 1/sqrt(head_size).
        softcap: scores are bounded by this, smoothly: softcap · tanh(scores / softcap).
        """
        Embed, HeadSize = config.Embed, config.HeadSize
        heads, kv_heads = (config.KvHeads, config.Group, HeadSize), (config.KvHeads, HeadSize)
        std = config.initializer_range
        out_std = initial.branch_scale(std, config.num_layers)
        return Attention(
            q=initial.linear(Embed, heads, std, rng.named(key, "q"), use_bias=use_bias),
            k=initial.linear(Embed, kv_heads, std, rng.named(key, "k"), use_bias=use_bias),
            v=initial.linear(Embed, kv_heads, std, rng.named(key, "v"), use_bias=use_bias),
            out=initial.linear(heads, Embed, out_std, rng.named(key, "out"), use_bias=use_out_bias),
            q_norm=norms[0],
            k_norm=norms[1],
            HeadSize=HeadSize,
            scale=1.0 / math.sqrt(HeadSize.size) if scale is None else scale,
            softcap=softcap,
        )

    def __call__(
        self, x: NamedArray, places: Places, rotation: Rotation, window: Any = None, cache: Cache | None = None
    ) -> tuple[NamedArray, Cache | None]:
        """x [..., position, embed] → the same axes, and the cache with the keys and values of these tokens.

        Args:
            window: how many positions back a place sees, its own among them: a number or a traced scalar; None for all.
        """
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotation(q), rotation(k)
        k, v = (each.rename({"position": "key_position"}) for each in (k, v))
        if cache is not None:
            assert places.start is not None
            cache = cache.extended(places.start, k, v)
            k, v = cache.keys.astype(q.dtype), cache.values.astype(q.dtype)
        mask = dataclasses.replace(places.mask, window=window)
        attended = attend(
            q, k, v, Key=self.HeadSize, KPos="key_position", mask=mask, scale=self.scale, softcap=self.softcap
        )
        return self.out(attended), cache
