"""Qwen3 as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.parts import hf as parts
from levanter.models.qwen3.config import Qwen3Config


def _from_hf(hf: Mapping[str, Any]) -> Qwen3Config:
    only(hf, "hidden_act", ("silu",))
    config = Qwen3Config(
        **parts.decoder_fields(hf),
        rope=parts.rope_from_hf(hf),
        **parts.upper_window_fields(hf),
        attention_bias=hf.get("attention_bias", False),
    )
    parts.require_layer_types(hf, config.windows)
    return config


def _to_hf(config: Qwen3Config) -> dict[str, Any]:
    return {
        **parts.decoder_to_hf(config),
        **parts.upper_window_to_hf(config),
        "attention_bias": config.attention_bias,
        "hidden_act": "silu",
    }


def _weights(config: Qwen3Config) -> list[Weight]:
    return [
        *parts.outer_weights(config),
        *parts.norm_weights(attention_norm="input_layernorm", mlp_norm="post_attention_layernorm"),
        *parts.attention_weights(bias=config.attention_bias, out_bias=config.attention_bias),
        *parts.query_norm_weights("head_size", "head_size"),
        *parts.mlp_weights(),
    ]


FAMILY = HfFamily(("qwen3",), "Qwen3ForCausalLM", _from_hf, _to_hf, _weights)
