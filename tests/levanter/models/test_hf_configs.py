"""A config.json that says more than a family can compute is refused, and both schemas of positions are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from levanter.errors import UserError
from levanter.hf.family import family_of_type
from levanter.models.parts.rope_config import RopeConfig

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


def read(model_type: str, **fields: Any) -> Any:
    hf = {"model_type": model_type, **SIZES, **fields}
    return family_of_type(hf, Path("folder")).config_from_hf(hf)


@pytest.mark.parametrize(
    ("model_type", "field", "value"),
    [
        ("llama", "hidden_act", "gelu"),
        ("llama", "pretraining_tp", 2),
        ("mistral", "hidden_act", "relu"),
        ("mixtral", "router_jitter_noise", 0.1),
        ("qwen2", "layer_types", ["sliding_attention", "full_attention", "full_attention"]),
        ("qwen3", "hidden_act", "gelu"),
        ("gemma", "use_bidirectional_attention", True),
        ("gemma2", "hidden_activation", "gelu"),
        ("gemma2", "attention_bias", True),
        ("gemma3_text", "attn_logit_softcapping", 50.0),
        ("olmo2", "hidden_act", "gelu"),
        ("phi3", "resid_pdrop", 0.1),
        ("vit", "hidden_dropout_prob", 0.1),
        ("whisper", "scale_embedding", True),
        ("whisper", "tie_word_embeddings", False),
    ],
)
def test_what_a_family_cannot_compute_is_refused(model_type: str, field: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        read(model_type, **{field: value})
    assert field in str(caught.value) and model_type in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3}},
        {"rope_theta": 500.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 500.0, "rope_scaling": {"type": "llama3", **LLAMA3}},
    ],
    ids=["new", "old", "older"],
)
def test_positions_are_read_in_every_schema(fields: dict[str, Any]) -> None:
    assert read("llama", **fields).rope == RopeConfig(theta=500.0, scaling="llama3", factor=8.0, original_positions=16)


def test_a_scaling_that_is_not_known_is_refused() -> None:
    for rope, name in (
        ({"rope_type": "spiral", "rope_theta": 500.0}, "spiral"),
        ({"rope_type": "yarn", "rope_theta": 500.0, "factor": 2.0, "mscale": 0.7}, "rope_parameters.mscale"),
    ):
        with pytest.raises(UserError) as caught:
            read("llama", rope_parameters=rope)
        assert name in str(caught.value)


def test_gemma_3_has_positions_of_two_kinds() -> None:
    both = {"full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}}
    local = {"sliding_attention": {"rope_type": "default", "rope_theta": 10.0}}
    new = read("gemma3_text", rope_parameters={**both, **local})
    old = read(
        "gemma3_text", rope_theta=1e6, rope_scaling={"rope_type": "linear", "factor": 8.0}, rope_local_base_freq=10.0
    )
    assert new == old
    assert new.rope == RopeConfig(theta=1e6, scaling="linear", factor=8.0) and new.local_theta == 10.0
    with pytest.raises(UserError):
        read("gemma3_text", rope_parameters={**both, "sliding_attention": both["full_attention"]})


@pytest.mark.parametrize(
    "model_type", ["llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "olmo2", "phi3"]
)
def test_what_is_written_is_read_again(model_type: str) -> None:
    config = read(model_type, rope_theta=500.0)
    again = family_of_type({"model_type": model_type}, Path("folder"))
    written = again.config_to_hf(config)
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 500.0
    read_again = again.config_from_hf({"model_type": model_type, **written})
    assert read_again.windows == config.windows and read_again.rope == config.rope
    assert again.config_to_hf(read_again) == written
