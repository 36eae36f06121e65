"""Mixtral as Hugging Face writes it: three matrices for each expert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.mixtral.config import MixtralConfig
from levanter.models.parts import hf as parts

_EXPERTS = f"{parts.LAYER}.block_sparse_moe"


def _from_hf(hf: Mapping[str, Any]) -> MixtralConfig:
    only(hf, "hidden_act", ("silu",))
    only(hf, "router_jitter_noise", (0.0, 0))
    return MixtralConfig(
        **parts.decoder_fields(hf),
        rope=parts.rope_from_hf(hf),
        num_experts=hf.get("num_local_experts", 8),
        experts_per_token=hf.get("num_experts_per_tok", 2),
        load_balance=hf.get("router_aux_loss_coef", 0.001),
        sliding_window=hf.get("sliding_window"),
    )


def _to_hf(config: MixtralConfig) -> dict[str, Any]:
    return {
        **parts.decoder_to_hf(config),
        "num_local_experts": config.num_experts,
        "num_experts_per_tok": config.experts_per_token,
        "router_aux_loss_coef": config.load_balance,
        "router_jitter_noise": 0.0,
        "sliding_window": config.sliding_window,
        "hidden_act": "silu",
    }


def _weights(config: MixtralConfig) -> list[Weight]:
    names = {"gate": ("w1", "mlp embed"), "down": ("w2", "embed mlp"), "up": ("w3", "mlp embed")}
    return [
        *parts.outer_weights(config),
        *parts.norm_weights(attention_norm="input_layernorm", experts_norm="post_attention_layernorm"),
        *parts.attention_weights(),
        Weight("blocks.experts.router.weight", f"{_EXPERTS}.gate.weight", "experts embed"),
        *(
            Weight(f"blocks.experts.{ours}.weight", f"{_EXPERTS}.experts.{{experts}}.{theirs}.weight", layout)
            for ours, (theirs, layout) in names.items()
        ),
    ]


FAMILY = HfFamily(
    ("mixtral",),
    "MixtralForCausalLM",
    _from_hf,
    _to_hf,
    _weights,
    joined=(
        (r"\.block_sparse_moe\.gate$", ".mlp.gate"),
        (r"\.block_sparse_moe\.experts\.\d+\.w[13]$", ".mlp.experts.gate_up_proj"),
        (r"\.block_sparse_moe\.experts\.\d+\.w2$", ".mlp.experts.down_proj"),
    ),
)
