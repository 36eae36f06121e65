"""A gated MLP (Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax

import haliax.nn as hnn
from haliax import NamedArray
from levanter.models.parts import initial
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.models.parts.config import DecoderConfig


class GatedMlp(eqx.Module):
    """`down(activation(gate(x)) * up(x))`"""

    gate: hnn.Linear  # [embed] → [mlp]
    up: hnn.Linear  # [embed] → [mlp]
    down: hnn.Linear  # [mlp] → [embed]
    activation: Callable[[NamedArray], NamedArray] = eqx.field(static=True)

    @staticmethod
    def init(
        config: DecoderConfig,
        *,
        activation: Callable[[NamedArray], NamedArray] = hnn.silu,
        use_bias: bool = False,
        key: jax.Array,
    ) -> GatedMlp:
        scale = config.initializer_range
        out_scale = initial.branch_scale(scale, config.num_layers)
        Embed, Mlp = config.Embed, config.Mlp
        return GatedMlp(
            gate=initial.linear(Embed, Mlp, scale, rng.named(key, "gate"), use_bias=use_bias),
            up=initial.linear(Embed, Mlp, scale, rng.named(key, "up"), use_bias=use_bias),
            down=initial.linear(Mlp, Embed, out_scale, rng.named(key, "down"), use_bias=use_bias),
            activation=activation,
        )

    def __call__(self, x: NamedArray) -> NamedArray:
        """x [..., embed] → [..., embed]"""
        return self.down(self.activation(self.gate(x)) * self.up(x))
