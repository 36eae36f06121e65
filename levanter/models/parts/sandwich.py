"""A layer with a norm before and after each branch, as in Gemma 2 and 3 (Riviere et al., arXiv:2408.00118)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx

from haliax import NamedArray
from levanter.models.parts.attention import Attention
from levanter.models.parts.cache import Cache
from levanter.models.parts.decoder import Layer, Losses
from levanter.models.parts.mlp import GatedMlp
from levanter.models.parts.norm import OffsetRmsNorm, offset_rms_norm
from levanter.models.parts.places import Places

if TYPE_CHECKING:
    from levanter.models.parts.config import DecoderConfig


class SandwichBlock(eqx.Module):
    """Attention and a gated MLP, each between two norms, added to what it read."""

    attention_norm: OffsetRmsNorm
    attention: Attention
    attention_out_norm: OffsetRmsNorm
    mlp_norm: OffsetRmsNorm
    mlp: GatedMlp
    mlp_out_norm: OffsetRmsNorm

    @staticmethod
    def of(config: DecoderConfig, attention: Attention, mlp: GatedMlp) -> SandwichBlock:
        """The layer of these branches."""
        norms = [offset_rms_norm(config.Embed, config.norm_epsilon) for _ in range(4)]
        return SandwichBlock(norms[0], attention, norms[1], norms[2], mlp, norms[3])

    def __call__(
        self, x: NamedArray, places: Places, layer: Layer, cache: Cache | None
    ) -> tuple[NamedArray, Cache | None, Losses]:
        """x [..., position, embed] → the same axes, and the layer's cache; nothing is added to the loss."""
        attended, cache = self.attention(self.attention_norm(x), places, layer.rotation, layer.window, cache)
        x = x + self.attention_out_norm(attended)
        return x + self.mlp_out_norm(self.mlp(self.mlp_norm(x))), cache, {}
