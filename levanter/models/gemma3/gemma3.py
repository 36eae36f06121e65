"""Gemma 3 (Kamath et al., arXiv:2503.19786), its language model, with named axes.

Gemma 2 with norms of queries and keys in place of the bounds. Five layers with a sliding window and rotary positions of
their own come before each layer that sees all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.models.parts.attention import Attention
from levanter.models.parts.decoder import DecoderLm, Layer
from levanter.models.parts.mlp import GatedMlp
from levanter.models.parts.norm import offset_rms_norm
from levanter.models.parts.rope_config import RopeConfig
from levanter.models.parts.rotary import Rotation
from levanter.models.parts.sandwich import SandwichBlock
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.gemma3.config import Gemma3Config


class Gemma3LMHeadModel(DecoderLm):
    """The language model."""

    config: Gemma3Config = eqx.field(static=True)

    @staticmethod
    def init(config: Gemma3Config, Vocab: Axis, *, key: jax.Array) -> Gemma3LMHeadModel:
        norm = offset_rms_norm(config.Embed, config.norm_epsilon)
        scale = math.sqrt(config.hidden_dim)
        return Gemma3LMHeadModel.made_of(config, Vocab, block, norm, embedding_scale=scale, key=key)

    def _rotations(self, positions: NamedArray) -> tuple[Rotation, ...]:
        local = Rotation.of(
            RopeConfig(theta=self.config.local_theta), positions, self.config.HeadSize, self.config.seq_len
        )
        return (*super()._rotations(positions), local)

    def _layer(self, rotations: tuple[Rotation, ...], window: Any) -> Layer:
        sees_all, local = rotations
        if not isinstance(window, NamedArray):
            return Layer(window, sees_all if window is None else local)
        chosen = jax.tree.map(
            lambda one, other: hax.where(window == 0, one, other),
            sees_all,
            local,
            is_leaf=lambda part: isinstance(part, NamedArray),
        )
        return Layer(window.scalar(), chosen)


def block(config: Gemma3Config, *, key: jax.Array) -> SandwichBlock:
    """One layer."""
    attention = Attention.init(
        config,
        norms=(
            offset_rms_norm(config.HeadSize, config.norm_epsilon),
            offset_rms_norm(config.HeadSize, config.norm_epsilon),
        ),
        scale=1.0 / math.sqrt(config.query_scale_size),
        key=rng.named(key, "attention"),
    )
    return SandwichBlock.of(config, attention, GatedMlp.init(config, activation=hnn.gelu, key=rng.named(key, "mlp")))
