"""Phi-3 (Abdin et al., arXiv:2404.14219) with named axes.

LLaMA's block; long texts are read with a divisor for each rotary frequency (LongRoPE).
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
    from levanter.models.phi3.config import Phi3Config


class Phi3LMHeadModel(DecoderLm):
    """The language model."""

    @staticmethod
    def init(config: Phi3Config, Vocab: Axis, *, key: jax.Array) -> Phi3LMHeadModel:
        norm = rms_norm(config.Embed, config.norm_epsilon)
        return Phi3LMHeadModel.made_of(config, Vocab, block, norm, key=key)


def block(config: Phi3Config, *, key: jax.Array) -> PreNormBlock:
    """One layer."""
    attention = Attention.init(config, key=rng.named(key, "attention"))
    return PreNormBlock.of(config, attention, GatedMlp.init(config, key=rng.named(key, "mlp")))
