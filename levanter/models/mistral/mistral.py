"""Mistral (Jiang et al., arXiv:2310.06825) with named axes.

LLaMA's block, but attention sees a sliding window only: through the layers below, a place still hears of all before it.
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
    from levanter.models.mistral.config import MistralConfig


class MistralLMHeadModel(DecoderLm):
    """The language model."""

    @staticmethod
    def init(config: MistralConfig, Vocab: Axis, *, key: jax.Array) -> MistralLMHeadModel:
        norm = rms_norm(config.Embed, config.norm_epsilon)
        return MistralLMHeadModel.made_of(config, Vocab, block, norm, key=key)


def block(config: MistralConfig, *, key: jax.Array) -> PreNormBlock:
    """One layer."""
    attention = Attention.init(config, key=rng.named(key, "attention"))
    return PreNormBlock.of(config, attention, GatedMlp.init(config, key=rng.named(key, "mlp")))
