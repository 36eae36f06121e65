"""OLMo 2 (OLMo et al., arXiv:2501.00656) with named axes.

Norms come after the branches, not before them, and all queries of a position are normalized together, as are its keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax

import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.models.parts.attention import Attention
from levanter.models.parts.cache import Cache
from levanter.models.parts.decoder import DecoderLm, Layer, Losses
from levanter.models.parts.mlp import GatedMlp
from levanter.models.parts.norm import rms_norm
from levanter.models.parts.places import Places
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.olmo2.config import Olmo2Config


class Olmo2Block(eqx.Module):
    """One layer."""

    attention: Attention
    attention_norm: hnn.RmsNorm
    mlp: GatedMlp
    mlp_norm: hnn.RmsNorm

    @staticmethod
    def init(config: Olmo2Config, *, key: jax.Array) -> Olmo2Block:
        epsilon, bias = config.norm_epsilon, config.attention_bias
        queries, keys = (config.KvHeads, config.Group, config.HeadSize), (config.KvHeads, config.HeadSize)
        attention = Attention.init(
            config,
            use_bias=bias,
            use_out_bias=bias,
            norms=(rms_norm(queries, epsilon), rms_norm(keys, epsilon)),
            key=rng.named(key, "attention"),
        )
        return Olmo2Block(
            attention=attention,
            attention_norm=rms_norm(config.Embed, epsilon),
            mlp=GatedMlp.init(config, key=rng.named(key, "mlp")),
            mlp_norm=rms_norm(config.Embed, epsilon),
        )

    def __call__(
        self, x: NamedArray, places: Places, layer: Layer, cache: Cache | None
    ) -> tuple[NamedArray, Cache | None, Losses]:
        """x [..., position, embed] → the same axes, and the layer's cache; nothing is added to the loss."""
        attended, cache = self.attention(x, places, layer.rotation, layer.window, cache)
        x = x + self.attention_norm(attended)
        return x + self.mlp_norm(self.mlp(x)), cache, {}


class Olmo2LMHeadModel(DecoderLm):
    """The language model."""

    @staticmethod
    def init(config: Olmo2Config, Vocab: Axis, *, key: jax.Array) -> Olmo2LMHeadModel:
        norm = rms_norm(config.Embed, config.norm_epsilon)
        return Olmo2LMHeadModel.made_of(config, Vocab, Olmo2Block.init, norm, key=key)
