"""Vision transformers as Hugging Face writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.vit.config import VitConfig

_FIELDS = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "num_channels",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "qkv_bias": "qkv_bias",
    "layer_norm_epsilon": "layer_norm_eps",
    "initializer_range": "initializer_range",
}
_LAYER = "vit.encoder.layer.{layers}"
_BRANCHES = {
    "attention.q": ("attention.attention.query", "(heads head_size) embed"),
    "attention.k": ("attention.attention.key", "(heads head_size) embed"),
    "attention.v": ("attention.attention.value", "(heads head_size) embed"),
    "attention.out": ("attention.output.dense", "embed (heads head_size)"),
    "mlp.up": ("intermediate.dense", "mlp embed"),
    "mlp.down": ("output.dense", "embed mlp"),
}


def _from_hf(hf: Mapping[str, Any]) -> VitConfig:
    only(hf, "hidden_act", ("gelu",))
    for field in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        only(hf, field, (0.0, 0))
    labels = len(hf["id2label"]) if "id2label" in hf else hf.get("num_labels", 2)
    return VitConfig(num_labels=labels, **{ours: hf[theirs] for ours, theirs in _FIELDS.items() if theirs in hf})


def _to_hf(config: VitConfig) -> dict[str, Any]:
    names = {str(label): f"LABEL_{label}" for label in range(config.num_labels)}
    return {
        **{theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()},
        "hidden_act": "gelu",
        "id2label": names,
        "label2id": {name: int(label) for label, name in names.items()},
    }


def _weights(config: VitConfig) -> list[Weight]:
    projection = "vit.embeddings.patch_embeddings.projection"
    weights = [
        Weight("embeddings.whole", "vit.embeddings.cls_token", "1 1 embed"),
        Weight("embeddings.positions", "vit.embeddings.position_embeddings", "1 position embed"),
        Weight("embeddings.projection.weight", f"{projection}.weight", "embed channels patch_height patch_width"),
        Weight("embeddings.projection.bias", f"{projection}.bias", "embed"),
    ]
    for ours, theirs in {"attention_norm": "layernorm_before", "mlp_norm": "layernorm_after"}.items():
        weights += [Weight(f"blocks.{ours}.{each}", f"{_LAYER}.{theirs}.{each}", "embed") for each in _BOTH]
    for ours, (theirs, layout) in _BRANCHES.items():
        weights.append(Weight(f"blocks.{ours}.weight", f"{_LAYER}.{theirs}.weight", layout))
        if config.qkv_bias or ours not in ("attention.q", "attention.k", "attention.v"):
            bias = "(heads head_size)" if layout.startswith("(") else layout.split()[0]
            weights.append(Weight(f"blocks.{ours}.bias", f"{_LAYER}.{theirs}.bias", bias))
    weights += [Weight(f"final_norm.{each}", f"vit.layernorm.{each}", "embed") for each in _BOTH]
    weights += [Weight("head.weight", "classifier.weight", "labels embed")]
    return [*weights, Weight("head.bias", "classifier.bias", "labels")]


_BOTH = ("weight", "bias")

FAMILY = HfFamily(
    model_types=("vit",),
    architecture="ViTForImageClassification",
    config_from_hf=_from_hf,
    config_to_hf=_to_hf,
    weights=_weights,
    base_prefix="vit",
    tied=(),
)
