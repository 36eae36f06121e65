"""Gemma (Mesnard et al., arXiv:2403.08295) with named axes.

LLaMA's block with a GELU in the gate, norms whose scale is 1 + weight, large heads, and embeddings that are multiplied
by sqrt(embed).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax

import haliax.nn as hnn
from haliax import Axis
from levanter.models.parts.attention import Attention
from levanter.models.parts.block import PreNormBlock
from levanter.models.parts.decoder import DecoderLm
from levanter.models.parts.mlp import GatedMlp
from levanter.models.parts.norm import offset_rms_norm
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.gemma.config import GemmaConfig


class GemmaLMHeadModel(DecoderLm):
    """The language model."""

    @staticmethod
    def init(config: GemmaConfig, Vocab: Axis, *, key: jax.Array) -> GemmaLMHeadModel:
        norm = offset_rms_norm(config.Embed, config.norm_epsilon)
        scale = math.sqrt(config.hidden_dim)
        return GemmaLMHeadModel.made_of(config, Vocab, block, norm, embedding_scale=scale, key=key)


def block(config: GemmaConfig, *, key: jax.Array) -> PreNormBlock:
    """One layer."""
    attention = Attention.init(config, key=rng.named(key, "attention"))
    mlp = GatedMlp.init(config, activation=hnn.gelu, key=rng.named(key, "mlp"))
    return PreNormBlock.of(config, attention, mlp, offset_rms_norm)
