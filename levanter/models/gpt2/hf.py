"""GPT-2 as Hugging Face folders have it: matrices are [in, out], and queries, keys and values are one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, field, only
from levanter.models.gpt2.config import Gpt2Config

_LAYER = "transformer.h.{layers}"


def _config_from_hf(hf: Mapping[str, Any]) -> Gpt2Config:
    only(hf, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
    only(hf, "scale_attn_weights", (True,))
    only(hf, "scale_attn_by_inverse_layer_idx", (False,))
    only(hf, "add_cross_attention", (False,))
    embed = field(hf, "n_embd", "gpt2")
    inner = hf.get("n_inner") or 4 * embed
    if inner % embed:
        only(hf, "n_inner", (None, 4 * embed))
    dropout = hf.get("resid_pdrop", 0.1)
    return Gpt2Config(
        seq_len=field(hf, "n_positions", "gpt2"),
        vocab_size=field(hf, "vocab_size", "gpt2"),
        hidden_dim=embed,
        num_heads=field(hf, "n_head", "gpt2"),
        num_layers=field(hf, "n_layer", "gpt2"),
        mlp_scale=inner // embed,
        dropout=dropout,
        layer_norm_epsilon=hf.get("layer_norm_epsilon", 1e-5),
        initializer_range=hf.get("initializer_range", 0.02),
        tie_word_embeddings=hf.get("tie_word_embeddings", True),
    )


def _config_to_hf(config: Gpt2Config) -> dict[str, Any]:
    return {
        "activation_function": "gelu_new",
        "add_cross_attention": False,
        "attn_pdrop": 0.0,
        "embd_pdrop": config.dropout,
        "initializer_range": config.initializer_range,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "n_embd": config.hidden_dim,
        "n_head": config.num_heads,
        "n_inner": None if config.mlp_scale == 4 else config.mlp_scale * config.hidden_dim,
        "n_layer": config.num_layers,
        "n_positions": config.seq_len,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": config.dropout,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": config.tie_word_embeddings,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


def _weights(config: Gpt2Config) -> list[Weight]:
    head = [] if config.tie_word_embeddings else [Weight("head", "lm_head.weight", "vocab embed")]
    return [
        Weight("embeddings.tokens.weight", "transformer.wte.weight", "vocab embed"),
        Weight("embeddings.positions.weight", "transformer.wpe.weight", "position embed", first="position"),
        Weight("blocks.attention_norm.weight", f"{_LAYER}.ln_1.weight", "embed"),
        Weight("blocks.attention_norm.bias", f"{_LAYER}.ln_1.bias", "embed"),
        Weight("blocks.attention.qkv.weight", f"{_LAYER}.attn.c_attn.weight", "embed (qkv heads head_size)"),
        Weight("blocks.attention.qkv.bias", f"{_LAYER}.attn.c_attn.bias", "(qkv heads head_size)"),
        Weight("blocks.attention.out.weight", f"{_LAYER}.attn.c_proj.weight", "(heads head_size) embed"),
        Weight("blocks.attention.out.bias", f"{_LAYER}.attn.c_proj.bias", "embed"),
        Weight("blocks.mlp_norm.weight", f"{_LAYER}.ln_2.weight", "embed"),
        Weight("blocks.mlp_norm.bias", f"{_LAYER}.ln_2.bias", "embed"),
        Weight("blocks.mlp.up.weight", f"{_LAYER}.mlp.c_fc.weight", "embed mlp"),
        Weight("blocks.mlp.up.bias", f"{_LAYER}.mlp.c_fc.bias", "mlp"),
        Weight("blocks.mlp.down.weight", f"{_LAYER}.mlp.c_proj.weight", "mlp embed"),
        Weight("blocks.mlp.down.bias", f"{_LAYER}.mlp.c_proj.bias", "embed"),
        Weight("final_norm.weight", "transformer.ln_f.weight", "embed"),
        Weight("final_norm.bias", "transformer.ln_f.bias", "embed"),
        *head,
    ]


FAMILY = HfFamily(
    model_types=("gpt2",),
    architecture="GPT2LMHeadModel",
    config_from_hf=_config_from_hf,
    config_to_hf=_config_to_hf,
    weights=_weights,
    base_prefix="transformer",
    tied=(("lm_head.weight", "transformer.wte.weight"),),
    ignored=(r"\.attn\.(masked_)?bias$",),
)
