"""Qwen2 (Yang et al., arXiv:2407.10671) with named axes.

LLaMA's block with biases in the queries, keys and values; above some layer attention may see a sliding window only.
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
    from levanter.models.qwen2.config import Qwen2Config


class Qwen2LMHeadModel(DecoderLm):
    """The language model."""

    @staticmethod
    def init(config: Qwen2Config, Vocab: Axis, *, key: jax.Array) -> Qwen2LMHeadModel:
        norm = rms_norm(config.Embed, config.norm_epsilon)
        return Qwen2LMHeadModel.made_of(config, Vocab, block, norm, key=key)


def block(config: Qwen2Config, *, key: jax.Array) -> PreNormBlock:
    """One layer."""
    attention = Attention.init(config, use_bias=True, key=rng.named(key, "attention"))
    return PreNormBlock.of(config, attention, GatedMlp.init(config, key=rng.named(key, "mlp")))
