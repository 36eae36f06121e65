"""LLaMA (Touvron et al., arXiv:2302.13971 and 2307.09288; Grattafiori et al., arXiv:2407.21783) with named axes.

A decoder of blocks that read through an RMS norm and add what they make: attention with rotary positions, whose queries
share keys and values in groups, then a gated MLP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax

from haliax import Axis
from levanter.models.parts.attention import Attention
from levanter.models.parts.block import PreNormBlock
from levanter.models.parts.decoder import DecoderLm
from levanter.models.parts.mlp import GatedMlp
from levanter.models.parts.norm import rms_norm
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.llama.config import LlamaConfig


class LlamaLMHeadModel(DecoderLm):
    """The language model."""

    @staticmethod
    def init(config: LlamaConfig, Vocab: Axis, *, key: jax.Array) -> LlamaLMHeadModel:
        norm = rms_norm(config.Embed, config.norm_epsilon)
        return LlamaLMHeadModel.made_of(config, Vocab, block, norm, key=key)


def block(config: LlamaConfig, *, key: jax.Array) -> PreNormBlock:
    """One layer."""
    bias = config.attention_bias
    return PreNormBlock.of(
        config,
        Attention.init(config, use_bias=bias, use_out_bias=bias, key=rng.named(key, "attention")),
        GatedMlp.init(config, use_bias=config.mlp_bias, key=rng.named(key, "mlp")),
    )
