"""Gemma as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.gemma.config import GemmaConfig
from levanter.models.parts import hf as parts


def _from_hf(hf: Mapping[str, Any]) -> GemmaConfig:
    # The first checkpoints say `gelu` in `hidden_act` and mean its tanh approximation, as `transformers` reads them.
    only(hf, "hidden_act", ("gelu_pytorch_tanh", "gelu"))
    only(hf, "hidden_activation", (None, "gelu_pytorch_tanh"))
    only(hf, "attention_bias", (False,))
    only(hf, "use_bidirectional_attention", (None, False))
    return GemmaConfig(**parts.decoder_fields(hf), rope=parts.rope_from_hf(hf))


def _to_hf(config: GemmaConfig) -> dict[str, Any]:
    activation = {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}
    return {**parts.decoder_to_hf(config), **activation, "attention_bias": False}


def _weights(config: GemmaConfig) -> list[Weight]:
    return [
        *parts.outer_weights(config),
        *parts.norm_weights(attention_norm="input_layernorm", mlp_norm="post_attention_layernorm"),
        *parts.attention_weights(),
        *parts.mlp_weights(),
    ]


FAMILY = HfFamily(("gemma",), "GemmaForCausalLM", _from_hf, _to_hf, _weights)
