"""Whisper as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from levanter.hf.family import HfFamily, Weight, only
from levanter.models.whisper.config import WhisperConfig

_FIELDS = {
    "num_mel_bins": "num_mel_bins",
    "max_frames": "max_source_positions",
    "seq_len": "max_target_positions",
    "vocab_size": "vocab_size",
    "hidden_dim": "d_model",
    "encoder_mlp_dim": "encoder_ffn_dim",
    "decoder_mlp_dim": "decoder_ffn_dim",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "encoder_heads": "encoder_attention_heads",
    "decoder_heads": "decoder_attention_heads",
    "initializer_range": "init_std",
}
_DROPPED = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop")


def _from_hf(hf: Mapping[str, Any]) -> WhisperConfig:
    only(hf, "activation_function", ("gelu",))
    only(hf, "scale_embedding", (False,))
    only(hf, "tie_word_embeddings", (True,))
    for field in _DROPPED:
        only(hf, field, (0.0, 0))
    return WhisperConfig(**{ours: hf[theirs] for ours, theirs in _FIELDS.items() if theirs in hf})


def _to_hf(config: WhisperConfig) -> dict[str, Any]:
    fields = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()}
    return {**fields, "activation_function": "gelu", "scale_embedding": False, "tie_word_embeddings": True}


def _weights(config: WhisperConfig) -> list[Weight]:
    return [*_encoder_weights(), *_decoder_weights()]


def _encoder_weights() -> Iterator[Weight]:
    theirs = "model.encoder"
    yield Weight("encoder.first.weight", f"{theirs}.conv1.weight", "embed mel frame")
    yield from _vector("encoder.first.bias", f"{theirs}.conv1.bias")
    yield Weight("encoder.second.weight", f"{theirs}.conv2.weight", "made embed frame")
    yield Weight("encoder.second.bias", f"{theirs}.conv2.bias", "made")
    yield Weight("encoder.positions", f"{theirs}.embed_positions.weight", "frame embed")
    yield from _layer("encoder", {"attention": "self_attn"})


def _decoder_weights() -> Iterator[Weight]:
    theirs = "model.decoder"
    yield Weight("decoder.tokens", f"{theirs}.embed_tokens.weight", "vocab embed")
    yield Weight("decoder.positions", f"{theirs}.embed_positions.weight", "position embed")
    yield from _layer("decoder", {"attention": "self_attn", "heard": "encoder_attn"})


def _layer(side: str, attentions: Mapping[str, str]) -> Iterator[Weight]:
    """The layers of a side, and the norm behind them."""
    ours, theirs = f"{side}.blocks", f"model.{side}.layers.{{layers}}"
    for name, module in attentions.items():
        for projection in ("q", "k", "v", "out"):
            place = f"{theirs}.{module}.{projection}_proj"
            heads = "(heads head_size)"
            layout = f"embed {heads}" if projection == "out" else f"{heads} embed"
            yield Weight(f"{ours}.{name}.{projection}.weight", f"{place}.weight", layout)
            if projection != "k":
                bias = "embed" if projection == "out" else heads
                yield Weight(f"{ours}.{name}.{projection}.bias", f"{place}.bias", bias)
        yield from _norm(f"{ours}.{name}_norm", f"{theirs}.{module}_layer_norm")
    for name, module, layout in (("up", "fc1", "mlp embed"), ("down", "fc2", "embed mlp")):
        yield Weight(f"{ours}.mlp.{name}.weight", f"{theirs}.{module}.weight", layout)
        yield Weight(f"{ours}.mlp.{name}.bias", f"{theirs}.{module}.bias", layout.split()[0])
    yield from _norm(f"{ours}.mlp_norm", f"{theirs}.final_layer_norm")
    yield from _norm(f"{side}.final_norm", f"model.{side}.layer_norm")


def _norm(ours: str, theirs: str) -> Iterator[Weight]:
    for part in ("weight", "bias"):
        yield from _vector(f"{ours}.{part}", f"{theirs}.{part}")


def _vector(ours: str, theirs: str) -> Iterator[Weight]:
    yield Weight(ours, theirs, "embed")


FAMILY = HfFamily(
    model_types=("whisper",),
    architecture="WhisperForConditionalGeneration",
    config_from_hf=_from_hf,
    config_to_hf=_to_hf,
    weights=_weights,
    tied=(("proj_out.weight", "model.decoder.embed_tokens.weight"),),
)
