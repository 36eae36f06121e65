"""Gemma 3's language model as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.hf.rope import rope_from_hf
from levanter.models.gemma3.config import Gemma3Config
from levanter.models.parts import hf as parts


def _from_hf(hf: Mapping[str, Any]) -> Gemma3Config:
    only(hf, "hidden_activation", ("gelu_pytorch_tanh",))
    only(hf, "attention_bias", (False,))
    only(hf, "use_bidirectional_attention", (None, False))
    only(hf, "attn_logit_softcapping", (None,))
    only(hf, "final_logit_softcapping", (None,))
    config = Gemma3Config(
        **parts.decoder_fields(hf),
        rope=parts.rope_from_hf(hf, "full_attention", default_theta=1e6),
        local_theta=_local_theta(hf),
        sliding_window=hf.get("sliding_window", 4096),
        global_every=hf.get("sliding_window_pattern") or hf.get("_sliding_window_pattern") or 6,
        query_scale_size=hf.get("query_pre_attn_scalar", 256),
    )
    parts.require_layer_types(hf, config.windows)
    return config


def _local_theta(hf: Mapping[str, Any]) -> float:
    """`theta` of the layers with a window; `rope_parameters` has it beside that of the others, or a field."""
    if "sliding_attention" not in (hf.get("rope_parameters") or {}):
        return hf.get("rope_local_base_freq", 10000.0)
    local = rope_from_hf(hf, "sliding_attention")
    only({"model_type": "gemma3_text", "rope_type": local.kind}, "rope_type", ("default",))
    return local.theta


def _to_hf(config: Gemma3Config) -> dict[str, Any]:
    fields = parts.decoder_to_hf(config)
    local = {"rope_type": "default", "rope_theta": config.local_theta}
    return {
        **fields,
        "rope_parameters": {"full_attention": fields["rope_parameters"], "sliding_attention": local},
        "rope_local_base_freq": config.local_theta,
        "sliding_window": config.sliding_window,
        "sliding_window_pattern": config.global_every,
        "layer_types": parts.layer_types(config.windows),
        "query_pre_attn_scalar": config.query_scale_size,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }


def _weights(config: Gemma3Config) -> list[Weight]:
    return [
        *parts.outer_weights(config),
        *parts.sandwich_weights(),
        *parts.attention_weights(),
        *parts.query_norm_weights("head_size", "head_size"),
        *parts.mlp_weights(),
    ]


FAMILY = HfFamily(("gemma3_text",), "Gemma3ForCausalLM", _from_hf, _to_hf, _weights)
