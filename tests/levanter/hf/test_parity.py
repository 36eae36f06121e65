"""Every family against `transformers`: logits, files and bytes; it writes and checks the table of docs/models.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the reference is PyTorch's: pip install -e '.[parity]'")

from model_inputs import Images, Speech, Text
from parity import Family, compare, note

LENGTH = 64
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": LENGTH,
    **SPECIAL,
}
GPT2 = {"vocab_size": 99, "n_positions": LENGTH, "n_embd": 32, "n_layer": 3, "n_head": 4, **SPECIAL}
VIT = {
    **{"image_size": 16, "patch_size": 4, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3},
    **{"num_attention_heads": 4, "num_labels": 5, "hidden_dropout_prob": 0.0},
}
WHISPER = {
    **{"vocab_size": 99, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 16, "d_model": 32},
    **{"encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 2},
    **{"encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "dropout": 0.0, "decoder_start_token_id": 1, **SPECIAL},
}
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 16},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}
# Longer than the positions of the original training, so that the long factors count.
LONGROPE = {
    **{"rope_type": "longrope", "rope_theta": 500.0, "original_max_position_embeddings": 16},
    **{"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [2.0, 3.0, 4.0, 5.0]},
}


def made(config: str, sizes: dict[str, Any], **fields: Any) -> Callable[[], Any]:
    """A config of transformers."""

    def make() -> Any:
        import transformers

        return getattr(transformers, config)(**{**sizes, **fields})

    return make


def text(name: str, prefix: str, *, sizes: dict[str, Any] = SIZES, planned: bool = True, **fields: Any) -> Family:
    """A family of language models, whose classes of transformers begin with `prefix`."""
    architecture = f"{prefix.removesuffix('Text')}{'LMHeadModel' if prefix == 'GPT2' else 'ForCausalLM'}"
    inputs = Text(SIZES["vocab_size"], LENGTH, architecture)
    return Family(name, made(f"{prefix}Config", sizes, **fields), inputs, planned)


FAMILIES = [
    text("gpt2", "GPT2", sizes=GPT2),
    text("gpt2, untied", "GPT2", sizes=GPT2, tie_word_embeddings=False, n_inner=96, planned=False),
    text("llama", "Llama"),
    text(
        "llama, llama3 rope, biases, tied",
        "Llama",
        rope_parameters=LLAMA3,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        head_dim=16,
        planned=False,
    ),
    text("llama, yarn", "Llama", rope_parameters=YARN, planned=False),
    text("mistral", "Mistral", sliding_window=8),
    text("mixtral", "Mixtral", num_local_experts=4, num_experts_per_tok=2),
    text("qwen2", "Qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=1),
    text("qwen3", "Qwen3", head_dim=16),
    text("gemma", "Gemma", head_dim=16),
    text("gemma2", "Gemma2", head_dim=16, sliding_window=8, query_pre_attn_scalar=24),
    text("gemma3", "Gemma3Text", head_dim=16, sliding_window=8, num_hidden_layers=7, query_pre_attn_scalar=24),
    text("olmo2", "Olmo2"),
    text("phi3", "Phi3", rope_parameters=LONGROPE, original_max_position_embeddings=16),
    Family("vit", made("ViTConfig", VIT), Images(16)),
    Family("vit, no biases of queries", made("ViTConfig", VIT, qkv_bias=False), Images(16), planned=False),
    Family("whisper", made("WhisperConfig", WHISPER), Speech(8, 40, 99, 16)),
]


QUICK = ("gpt2", "llama", "llama, yarn", "mixtral", "gemma3", "phi3", "vit", "whisper")


@pytest.mark.parametrize(
    "family",
    [pytest.param(each, id=each.name, marks=() if each.name in QUICK else pytest.mark.slow) for each in FAMILIES],
)
def test_a_family_agrees_with_transformers(family: Family, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found = compare(family, tmp_path)
    assert found.difference < 1e-4
    assert found.loads and found.identical and found.planned is not False
    note(found, request.config.getoption("--update-golden"))
