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
        sliding_window=hf.get("sliding_window") if hf.get("use_sliding_window") else None,
        full_layers=hf.get("max_window_layers", 28),
    )
    parts.require_layer_types(hf, config.windows)
    return config


def _to_hf(config: Qwen2Config) -> dict[str, Any]:
    return {
        **parts.decoder_to_hf(config),
        "use_sliding_window": config.sliding_window is not None,
        "sliding_window": config.sliding_window,
        "max_window_layers": config.full_layers,
        "layer_types": parts.layer_types(config.windows),
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
