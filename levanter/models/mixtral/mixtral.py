"""Mixtral (Jiang et al., arXiv:2401.04088) with named axes.

Mistral's block with a mixture of experts for its MLP: each token goes through two of eight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax

import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.models.parts import initial
from levanter.models.parts.attention import Attention
from levanter.models.parts.cache import Cache
from levanter.models.parts.decoder import DecoderLm, Layer, Losses
from levanter.models.parts.experts import Experts, ExpertsShape
from levanter.models.parts.norm import rms_norm
from levanter.models.parts.places import Places
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.mixtral.config import MixtralConfig


class MixtralBlock(eqx.Module):
    """One layer."""

    attention_norm: hnn.RmsNorm
    attention: Attention
    experts_norm: hnn.RmsNorm
    experts: Experts
    load_balance: float = eqx.field(static=True)
    router_z: float = eqx.field(static=True)

    @staticmethod
    def init(config: MixtralConfig, *, key: jax.Array) -> MixtralBlock:
        scale = config.initializer_range
        shape = ExpertsShape(config.Experts, config.Embed, config.Mlp, config.experts_per_token, config.capacity_factor)
        experts = Experts.init(
            shape,
            scale=scale,
            out_scale=initial.branch_scale(scale, config.num_layers),
            key=rng.named(key, "experts"),
        )
        return MixtralBlock(
            attention_norm=rms_norm(config.Embed, config.norm_epsilon),
            attention=Attention.init(config, key=rng.named(key, "attention")),
            experts_norm=rms_norm(config.Embed, config.norm_epsilon),
            experts=experts,
            load_balance=config.load_balance,
            router_z=config.router_z,
        )

    def __call__(
        self, x: NamedArray, places: Places, layer: Layer, cache: Cache | None
    ) -> tuple[NamedArray, Cache | None, Losses]:
        """x [..., position, embed] → the same axes, the layer's cache, and the losses of its router."""
        attended, cache = self.attention(self.attention_norm(x), places, layer.rotation, layer.window, cache)
        x = x + attended
        mixed, losses = self.experts(self.experts_norm(x))
        weights = {"load_balance": self.load_balance, "router_z": self.router_z}
        return x + mixed, cache, {name: losses[name] * weight for name, weight in weights.items() if weight > 0}


class MixtralLMHeadModel(DecoderLm):
    """The language model."""

    @staticmethod
    def init(config: MixtralConfig, Vocab: Axis, *, key: jax.Array) -> MixtralLMHeadModel:
        norm = rms_norm(config.Embed, config.norm_epsilon)
        return MixtralLMHeadModel.made_of(config, Vocab, MixtralBlock.init, norm, key=key)
