"""Qwen2 as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.parts import hf as parts
from levanter.models.qwen2.config import Qwen2Config


def _from_hf(hf: Mapping[str, Any]) -> Qwen2Config:
    only(hf, "hidden_act", ("silu",))
    config = Qwen2Config(
        **parts.decoder_fields(hf),
        rope=parts.rope_from_hf(hf),
        **parts.upper_window_fields(hf),
    )
    parts.require_layer_types(hf, config.windows)
    return config


def _to_hf(config: Qwen2Config) -> dict[str, Any]:
    return {
        **parts.decoder_to_hf(config),
        **parts.upper_window_to_hf(config),
        "hidden_act": "silu",
    }


def _weights(config: Qwen2Config) -> list[Weight]:
    return [
        *parts.outer_weights(config),
        *parts.norm_weights(attention_norm="input_layernorm", mlp_norm="post_attention_layernorm"),
        *parts.attention_weights(bias=True),
        *parts.mlp_weights(),
    ]


FAMILY = HfFamily(("qwen2",), "Qwen2ForCausalLM", _from_hf, _to_hf, _weights)
