"""Phi-3 as Hugging Face writes it: queries, keys and values in one matrix, a gate and what it gates in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.parts import hf as parts
from levanter.models.phi3.config import Phi3Config


def _from_hf(hf: Mapping[str, Any]) -> Phi3Config:
    only(hf, "hidden_act", ("silu",))
    for field in ("resid_pdrop", "embd_pdrop", "attention_dropout"):
        only(hf, field, (0.0, 0))
    return Phi3Config(**parts.decoder_fields(hf), rope=parts.rope_from_hf(hf), sliding_window=hf.get("sliding_window"))


def _to_hf(config: Phi3Config) -> dict[str, Any]:
    original = config.rope.original_positions or config.max_positions or config.seq_len
    return {
        **parts.decoder_to_hf(config),
        "original_max_position_embeddings": original,
        "sliding_window": config.sliding_window,
        "hidden_act": "silu",
    }


def _weights(config: Phi3Config) -> list[Weight]:
    return [
        *parts.outer_weights(config),
        *parts.norm_weights(attention_norm="input_layernorm", mlp_norm="post_attention_layernorm"),
        *_fused_weights(config),
        Weight(
            "blocks.attention.out.weight",
            f"{parts.LAYER}.self_attn.o_proj.weight",
            "embed (kv_heads group head_size)",
        ),
        Weight("blocks.mlp.down.weight", f"{parts.LAYER}.mlp.down_proj.weight", "embed mlp"),
    ]


def _fused_weights(config: Phi3Config) -> Iterator[Weight]:
    queries = config.num_heads * config.HeadSize.size
    keys = config.num_kv_heads * config.HeadSize.size
    rows = {"q": (0, queries), "k": (queries, queries + keys), "v": (queries + keys, queries + 2 * keys)}
    for name, range_ in rows.items():
        layout = "(kv_heads group head_size) embed" if name == "q" else "(kv_heads head_size) embed"
        key = f"{parts.LAYER}.self_attn.qkv_proj.weight"
        yield Weight(f"blocks.attention.{name}.weight", key, layout, rows=range_)
    mlp = config.intermediate_dim
    for name, range_ in {"gate": (0, mlp), "up": (mlp, 2 * mlp)}.items():
        key = f"{parts.LAYER}.mlp.gate_up_proj.weight"
        yield Weight(f"blocks.mlp.{name}.weight", key, "mlp embed", rows=range_)


FAMILY = HfFamily(("phi3",), "Phi3ForCausalLM", _from_hf, _to_hf, _weights)
