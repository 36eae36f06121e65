"""How `transformers` writes decoders in the manner of LLaMA: the fields of config.json, and the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from levanter.hf import errors as hf_errors
from levanter.hf import rope as schemas
from levanter.hf.family import Weight
from levanter.hf.rope import DEFAULT_THETA
from levanter.models.parts.config import DecoderConfig
from levanter.models.parts.rope_config import SCALINGS, RopeConfig
from levanter.models.parts.windowed import UpperWindowConfig

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
    """The fields of a `DecoderConfig` that a config.json has, all but `rope`; what it leaves out keeps the default."""
    fields = {ours: hf[theirs] for ours, theirs in _FIELDS.items() if hf.get(theirs) is not None}
    if "num_heads" in fields:
        fields.setdefault("num_kv_heads", fields["num_heads"])
    return fields


def decoder_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """What a `DecoderConfig` is in a config.json."""
    fields = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()}
    fields["max_position_embeddings"] = config.max_positions or config.seq_len
    fields["head_dim"] = config.HeadSize.size
    return {**fields, **rope_to_hf(config.rope)}


# --- rotary positions -----------------------------------------------------------------------------------------------


def rope_from_hf(hf: HfConfig, layer_type: str | None = None, *, default_theta: float = DEFAULT_THETA) -> RopeConfig:
    """The rotary positions of a config.json.

    Args:
        layer_type: which of several, where layers differ.
        default_theta: of the family, where config.json has none.

    Raises:
        UserError: the two schemas contradict each other, or the scaling or an option of it is not known.
    """
    read = schemas.rope_from_hf(hf, layer_type, default_theta=default_theta)
    # The scaling of Phi-3 had another name before it was called longrope.
    kind = "longrope" if read.kind == "su" else read.kind
    model_type = str(hf.get("model_type"))
    if kind not in SCALINGS:
        raise hf_errors.config_unsupported(model_type, "rope_type", kind, SCALINGS)
    for name, value in read.numbers.items():
        if name not in _ROPE_FIELDS.values() and value is not None:
            raise hf_errors.config_unsupported(model_type, f"rope_parameters.{name}", value, (None,))
    outside = {name: hf.get(name) for name in ("partial_rotary_factor", "original_max_position_embeddings")}
    given = {**outside, **read.numbers}
    used = ("fraction", *_ROPE_FIELDS_OF[kind])
    fields = {ours: given[_ROPE_FIELDS[ours]] for ours in used if given.get(_ROPE_FIELDS[ours]) is not None}
    if kind == "longrope" and "factor" not in fields and "original_positions" in fields:
        fields["factor"] = hf["max_position_embeddings"] / fields["original_positions"]
    return RopeConfig(theta=read.theta, scaling=kind, **fields)


def rope_to_hf(rope: RopeConfig) -> dict[str, Any]:
    """Rotary positions in both schemas."""
    used = (("fraction",) if rope.fraction != 1.0 else ()) + _ROPE_FIELDS_OF[rope.scaling]
    numbers = {_ROPE_FIELDS[ours]: getattr(rope, ours) for ours in used}
    known = {name: value for name, value in numbers.items() if value is not None}
    fields = schemas.rope_to_hf(schemas.Rope(rope.theta, rope.scaling, known))
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


def upper_window_fields(hf: HfConfig) -> dict[str, Any]:
    """The fields of an `UpperWindowConfig` that say how far layers see."""
    window = hf.get("sliding_window") if hf.get("use_sliding_window") else None
    return {"sliding_window": window, "full_layers": hf.get("max_window_layers", 28)}


def upper_window_to_hf(config: UpperWindowConfig) -> dict[str, Any]:
    """What they are in a config.json."""
    return {
        "use_sliding_window": config.sliding_window is not None,
        "sliding_window": config.sliding_window,
        "max_window_layers": config.full_layers,
        "layer_types": layer_types(config.windows),
    }


def require_layer_types(hf: HfConfig, windows: Sequence[int | None]) -> None:
    """Hold `layer_types` of a config.json, where it is given, against the windows of the config read from it.

    Raises:
        UserError: layers take turns in another way.
    """
    if hf.get("layer_types") is not None and list(hf["layer_types"]) != layer_types(windows):
        raise hf_errors.config_unsupported(
            str(hf.get("model_type")), "layer_types", hf["layer_types"], (layer_types(windows),)
        )
