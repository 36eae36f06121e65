"""Gemma 2 (Riviere et al., arXiv:2408.00118) with named axes.

Gemma with a norm before and after each branch, scores and logits that are bounded smoothly, and layers that take turns:
in one attention sees a sliding window, in the next all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax

import haliax.nn as hnn
from haliax import Axis
from levanter.models.parts.attention import Attention
from levanter.models.parts.decoder import DecoderLm
from levanter.models.parts.mlp import GatedMlp
from levanter.models.parts.norm import offset_rms_norm
from levanter.models.parts.sandwich import SandwichBlock
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.gemma2.config import Gemma2Config


class Gemma2LMHeadModel(DecoderLm):
    """The language model."""

    @staticmethod
    def init(config: Gemma2Config, Vocab: Axis, *, key: jax.Array) -> Gemma2LMHeadModel:
        norm = offset_rms_norm(config.Embed, config.norm_epsilon)
        scale = math.sqrt(config.hidden_dim)
        return Gemma2LMHeadModel.made_of(config, Vocab, block, norm, embedding_scale=scale, key=key)


def block(config: Gemma2Config, *, key: jax.Array) -> SandwichBlock:
    """One layer."""
    attention = Attention.init(
        config,
        scale=1.0 / math.sqrt(config.query_scale_size),
        softcap=config.scores_cap,
        key=rng.named(key, "attention"),
    )
    return SandwichBlock.of(config, attention, GatedMlp.init(config, activation=hnn.gelu, key=rng.named(key, "mlp")))
