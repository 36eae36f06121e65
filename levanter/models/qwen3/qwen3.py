"""Qwen3 (Yang et al., arXiv:2505.09388) with named axes.

LLaMA's block, in which each head's queries and keys go through an RMS norm of their own before they are turned.
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
    from levanter.models.qwen3.config import Qwen3Config


class Qwen3LMHeadModel(DecoderLm):
    """The language model."""

    @staticmethod
    def init(config: Qwen3Config, Vocab: Axis, *, key: jax.Array) -> Qwen3LMHeadModel:
        norm = rms_norm(config.Embed, config.norm_epsilon)
        return Qwen3LMHeadModel.made_of(config, Vocab, block, norm, key=key)


def block(config: Qwen3Config, *, key: jax.Array) -> PreNormBlock:
    """One layer."""
    attention = Attention.init(
        config,
        use_bias=config.attention_bias,
        use_out_bias=config.attention_bias,
        norms=(rms_norm(config.HeadSize, config.norm_epsilon), rms_norm(config.HeadSize, config.norm_epsilon)),
        key=rng.named(key, "attention"),
    )
    return PreNormBlock.of(config, attention, GatedMlp.init(config, key=rng.named(key, "mlp")))
