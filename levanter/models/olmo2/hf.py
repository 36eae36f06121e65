"""OLMo 2 as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.olmo2.config import Olmo2Config
from levanter.models.parts import hf as parts


def _from_hf(hf: Mapping[str, Any]) -> Olmo2Config:
    only(hf, "hidden_act", ("silu",))
    return Olmo2Config(
        **parts.decoder_fields(hf), rope=parts.rope_from_hf(hf), attention_bias=hf.get("attention_bias", False)
    )


def _to_hf(config: Olmo2Config) -> dict[str, Any]:
    fields = parts.decoder_to_hf(config)
    return {**fields, "attention_bias": config.attention_bias, "hidden_act": "silu"}


def _weights(config: Olmo2Config) -> list[Weight]:
    return [
        *parts.outer_weights(config),
        *parts.norm_weights(attention_norm="post_attention_layernorm", mlp_norm="post_feedforward_layernorm"),
        *parts.attention_weights(bias=config.attention_bias, out_bias=config.attention_bias),
        *parts.query_norm_weights("(kv_heads group head_size)", "(kv_heads head_size)"),
        *parts.mlp_weights(),
    ]


FAMILY = HfFamily(("olmo2",), "Olmo2ForCausalLM", _from_hf, _to_hf, _weights)
