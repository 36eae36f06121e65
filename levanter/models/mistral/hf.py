"""Mistral as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.mistral.config import MistralConfig
from levanter.models.parts import hf as parts


def _from_hf(hf: Mapping[str, Any]) -> MistralConfig:
    only(hf, "hidden_act", ("silu",))
    return MistralConfig(
        **parts.decoder_fields(hf), rope=parts.rope_from_hf(hf), sliding_window=hf.get("sliding_window", 4096)
    )


def _to_hf(config: MistralConfig) -> dict[str, Any]:
    return {**parts.decoder_to_hf(config), "sliding_window": config.sliding_window, "hidden_act": "silu"}


def _weights(config: MistralConfig) -> list[Weight]:
    return [
        *parts.outer_weights(config),
        *parts.norm_weights(attention_norm="input_layernorm", mlp_norm="post_attention_layernorm"),
        *parts.attention_weights(),
        *parts.mlp_weights(),
    ]


FAMILY = HfFamily(("mistral",), "MistralForCausalLM", _from_hf, _to_hf, _weights)
