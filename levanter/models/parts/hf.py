"""How decoders in the manner of LLaMA are written by Hugging Face `transformers`: fields of config.json, and weights.

Rotary positions have two schemas: `rope_parameters` (transformers 5) and `rope_theta` with `rope_scaling` (before).
Both are read, and both are written, because a reader of one does not complain where it finds only the other: it takes
its default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from levanter.hf import errors
from levanter.hf.family import Weight
from levanter.models.parts.config import DecoderConfig
from levanter.models.parts.rope_config import SCALINGS, RopeConfig

HfConfig = Mapping[str, Any]

_FIELDS = {
    "seq_len": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "norm_epsilon": "rms_norm_eps",
    "initializer_range": "initializer_range",
    "tie_word_embeddings": "tie_word_embeddings",
}
_ROPE_FIELDS = {
    "theta": "rope_theta",
    "fraction": "partial_rotary_factor",
    "factor": "factor",
    "original_positions": "original_max_position_embeddings",
    "low_frequency_factor": "low_freq_factor",
    "high_frequency_factor": "high_freq_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "attention_factor": "attention_factor",
    "short_factors": "short_factor",
    "long_factors": "long_factor",
}
_ROPE_FIELDS_OF = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_positions"),
    "yarn": ("factor", "original_positions", "beta_fast", "beta_slow", "attention_factor"),
    "llama3": ("factor", "original_positions", "low_frequency_factor", "high_frequency_factor"),
    "longrope": ("factor", "original_positions", "attention_factor", "short_factors", "long_factors"),
}


def decoder_fields(hf: HfConfig) -> dict[str, Any]:
    """The fields of a `DecoderConfig` that a config.json has; one that it leaves out keeps the family's default.

    Raises:
        UserError: the positions are scaled in a way that is not known.
    """
    fields = {ours: hf[theirs] for ours, theirs in _FIELDS.items() if hf.get(theirs) is not None}
    if "num_heads" in fields:
        fields.setdefault("num_kv_heads", fields["num_heads"])
    fields["rope"] = rope_from_hf(hf, rope_section(hf))
    return fields


def decoder_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """What a `DecoderConfig` is in a config.json."""
    fields = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()}
    fields["max_position_embeddings"] = config.max_positions or config.seq_len
    fields["head_dim"] = config.HeadSize.size
    return {**fields, **rope_to_hf(config.rope)}


# --- rotary positions -----------------------------------------------------------------------------------------------


def rope_section(hf: HfConfig) -> dict[str, Any]:
    """What a config.json says of rotary positions, in either schema, as `rope_parameters` has it."""
    if hf.get("rope_parameters"):
        return dict(hf["rope_parameters"])
    section = {"rope_type": "default", **(hf.get("rope_scaling") or {})}
    if "type" in section:
        section["rope_type"] = section.pop("type")
    if hf.get("rope_theta") is not None:
        section["rope_theta"] = hf["rope_theta"]
    return section


def rope_from_hf(hf: HfConfig, section: Mapping[str, Any]) -> RopeConfig:
    """The rotary positions that a section of a config.json describes.

    Raises:
        UserError: the scaling, or an option of it, is not known.
    """
    kind = section.get("rope_type", "default")
    # The scaling of Phi-3 had other names before it was called longrope.
    kind = "longrope" if kind == "su" else kind
    if kind not in SCALINGS:
        raise errors.unsupported(str(hf.get("model_type")), "rope_type", kind, SCALINGS)
    known = {*_ROPE_FIELDS.values(), "rope_type", "type"}
    for field, value in section.items():
        if field not in known and value is not None:
            raise errors.unsupported(str(hf.get("model_type")), f"rope_parameters.{field}", value, (None,))
    outer = ("partial_rotary_factor", "original_max_position_embeddings")
    merged = {**{field: hf.get(field) for field in outer}, **section}
    used = ("theta", "fraction", *_ROPE_FIELDS_OF[kind])
    fields = {ours: merged[_ROPE_FIELDS[ours]] for ours in used if merged.get(_ROPE_FIELDS[ours]) is not None}
    if kind == "longrope" and "factor" not in fields and "original_positions" in fields:
        fields["factor"] = hf["max_position_embeddings"] / fields["original_positions"]
    return RopeConfig(scaling=kind, **fields)


def rope_parameters(rope: RopeConfig) -> dict[str, Any]:
    """The section `rope_parameters` of a config.json."""
    section: dict[str, Any] = {"rope_type": rope.scaling, "rope_theta": rope.theta}
    if rope.fraction != 1.0:
        section["partial_rotary_factor"] = rope.fraction
    for ours in _ROPE_FIELDS_OF[rope.scaling]:
        if (value := getattr(rope, ours)) is not None:
            section[_ROPE_FIELDS[ours]] = value
    return section


def rope_to_hf(rope: RopeConfig) -> dict[str, Any]:
    """Rotary positions in both schemas."""
    section = rope_parameters(rope)
    before = {key: value for key, value in section.items() if key not in ("rope_theta", "partial_rotary_factor")}
    fields: dict[str, Any] = {
        "rope_parameters": section,
        "rope_theta": rope.theta,
        "rope_scaling": None if rope.scaling == "default" else {**before, "type": rope.scaling},
    }
    if rope.fraction != 1.0:
        fields["partial_rotary_factor"] = rope.fraction
    return fields


# --- weights --------------------------------------------------------------------------------------------------------

LAYER = "model.layers.{layers}"


def outer_weights(config: DecoderConfig) -> Iterator[Weight]:
    """What lies around the layers: the embedding, the last norm and the head."""
    yield Weight("embeddings.tokens.weight", "model.embed_tokens.weight", "vocab embed")
    yield Weight("final_norm.weight", "model.norm.weight", "embed")
    if not config.tie_word_embeddings:
        yield Weight("head", "lm_head.weight", "vocab embed")


def attention_weights(*, bias: bool = False, out_bias: bool = False) -> Iterator[Weight]:
    """Queries, keys, values and the output of attention."""
    layouts = {"q": "(kv_heads group head_size)", "k": "(kv_heads head_size)", "v": "(kv_heads head_size)"}
    for name, out in layouts.items():
        yield Weight(f"blocks.attention.{name}.weight", f"{LAYER}.self_attn.{name}_proj.weight", f"{out} embed")
        if bias:
            yield Weight(f"blocks.attention.{name}.bias", f"{LAYER}.self_attn.{name}_proj.bias", out)
    yield Weight("blocks.attention.out.weight", f"{LAYER}.self_attn.o_proj.weight", f"embed {layouts['q']}")
    if out_bias:
        yield Weight("blocks.attention.out.bias", f"{LAYER}.self_attn.o_proj.bias", "embed")


def mlp_weights(*, bias: bool = False) -> Iterator[Weight]:
    """The gated MLP."""
    for name, layout in (("gate", "mlp embed"), ("up", "mlp embed"), ("down", "embed mlp")):
        yield Weight(f"blocks.mlp.{name}.weight", f"{LAYER}.mlp.{name}_proj.weight", layout)
        if bias:
            yield Weight(f"blocks.mlp.{name}.bias", f"{LAYER}.mlp.{name}_proj.bias", layout.split()[0])


def norm_weights(**names: str) -> Iterator[Weight]:
    """Norms of a layer over `embed`, by our name: `attention_norm="input_layernorm"`."""
    for ours, theirs in names.items():
        yield Weight(f"blocks.{ours}.weight", f"{LAYER}.{theirs}.weight", "embed")


def sandwich_weights() -> Iterator[Weight]:
    """The norms before and after each branch, as in Gemma 2 and 3."""
    return norm_weights(
        attention_norm="input_layernorm",
        attention_out_norm="post_attention_layernorm",
        mlp_norm="pre_feedforward_layernorm",
        mlp_out_norm="post_feedforward_layernorm",
    )


def query_norm_weights(queries: str, keys: str) -> Iterator[Weight]:
    """The norms of queries and keys, whose dims are the two layouts."""
    yield Weight("blocks.attention.q_norm.weight", f"{LAYER}.self_attn.q_norm.weight", queries)
    yield Weight("blocks.attention.k_norm.weight", f"{LAYER}.self_attn.k_norm.weight", keys)


# --- windows --------------------------------------------------------------------------------------------------------


def layer_types(windows: Sequence[int | None]) -> list[str]:
    """The field `layer_types` of a config.json."""
    return ["full_attention" if window is None else "sliding_attention" for window in windows]


def require_layer_types(hf: HfConfig, windows: Sequence[int | None]) -> None:
    """Hold `layer_types` of a config.json, where it is given, against the windows of the config read from it.

    Raises:
        UserError: layers take turns in another way.
    """
    if hf.get("layer_types") is not None and list(hf["layer_types"]) != layer_types(windows):
        raise errors.unsupported(str(hf.get("model_type")), "layer_types", hf["layer_types"], (layer_types(windows),))
