"""Gemma 2 as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.gemma2.config import Gemma2Config
from levanter.models.parts import hf as parts


def _from_hf(hf: Mapping[str, Any]) -> Gemma2Config:
    only(hf, "hidden_activation", ("gelu_pytorch_tanh",))
    only(hf, "attention_bias", (False,))
    only(hf, "use_bidirectional_attention", (None, False))
    config = Gemma2Config(
        **parts.decoder_fields(hf),
        rope=parts.rope_from_hf(hf),
        sliding_window=hf.get("sliding_window", 4096),
        query_scale_size=hf.get("query_pre_attn_scalar", 256),
        scores_cap=hf.get("attn_logit_softcapping", 50.0),
        output_cap=hf.get("final_logit_softcapping", 30.0),
    )
    parts.require_layer_types(hf, config.windows)
    return config


def _to_hf(config: Gemma2Config) -> dict[str, Any]:
    return {
        **parts.decoder_to_hf(config),
        "sliding_window": config.sliding_window,
        "layer_types": parts.layer_types(config.windows),
        "query_pre_attn_scalar": config.query_scale_size,
        "attn_logit_softcapping": config.scores_cap,
        "final_logit_softcapping": config.output_cap,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
    }


def _weights(config: Gemma2Config) -> list[Weight]:
    return [
        *parts.outer_weights(config),
        *parts.sandwich_weights(),
        *parts.attention_weights(),
        *parts.mlp_weights(),
    ]


FAMILY = HfFamily(("gemma2",), "Gemma2ForCausalLM", _from_hf, _to_hf, _weights)
