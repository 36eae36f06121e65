"""A layer that reads the residual stream through a norm and adds to it what it makes: attention, then an MLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx

import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.models.parts.attention import Attention
from levanter.models.parts.cache import Cache
from levanter.models.parts.decoder import Layer, Losses
from levanter.models.parts.mlp import GatedMlp
from levanter.models.parts.norm import rms_norm
from levanter.models.parts.places import Places

if TYPE_CHECKING:
    from levanter.models.parts.config import DecoderConfig


class PreNormBlock(eqx.Module):
    """The layer of LLaMA, Mistral, Qwen, Phi-3 and the first Gemma."""

    attention_norm: hnn.RmsNorm
    attention: Attention
    mlp_norm: hnn.RmsNorm
    mlp: GatedMlp

    @staticmethod
    def of(
        config: DecoderConfig,
        attention: Attention,
        mlp: GatedMlp,
        norm: Callable[[Axis, float], hnn.RmsNorm] = rms_norm,
    ) -> PreNormBlock:
        """The layer of these branches, with a norm before each."""
        norms = [norm(config.Embed, config.norm_epsilon) for _ in range(2)]
        return PreNormBlock(norms[0], attention, norms[1], mlp)

    def __call__(
        self, x: NamedArray, places: Places, layer: Layer, cache: Cache | None
    ) -> tuple[NamedArray, Cache | None, Losses]:
        """x [..., position, embed] → the same axes, and the layer's cache; nothing is added to the loss."""
        attended, cache = self.attention(self.attention_norm(x), places, layer.rotation, layer.window, cache)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x)), cache, {}
