"""LLaMA as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.llama.config import LlamaConfig
from levanter.models.parts import hf as parts


def _from_hf(hf: Mapping[str, Any]) -> LlamaConfig:
    only(hf, "hidden_act", ("silu",))
    only(hf, "pretraining_tp", (1,))
    return LlamaConfig(
        **parts.decoder_fields(hf),
        rope=parts.rope_from_hf(hf),
        attention_bias=hf.get("attention_bias", False),
        mlp_bias=hf.get("mlp_bias", False),
    )


def _to_hf(config: LlamaConfig) -> dict[str, Any]:
    biases = {"attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}
    return {**parts.decoder_to_hf(config), **biases, "hidden_act": "silu"}


def _weights(config: LlamaConfig) -> list[Weight]:
    return [
        *parts.outer_weights(config),
        *parts.norm_weights(attention_norm="input_layernorm", mlp_norm="post_attention_layernorm"),
        *parts.attention_weights(bias=config.attention_bias, out_bias=config.attention_bias),
        *parts.mlp_weights(bias=config.mlp_bias),
    ]


FAMILY = HfFamily(("llama",), "LlamaForCausalLM", _from_hf, _to_hf, _weights)
