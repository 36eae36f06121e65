"""Every family against `transformers`: logits, files and bytes; it writes and checks the table of docs/models.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the reference is PyTorch's: pip install -e '.[parity]'")

from parity import Family, compare, note


def gpt2(**fields: Any) -> Any:
    from transformers import GPT2Config

    sizes = {"vocab_size": 99, "n_positions": 48, "n_embd": 32, "n_layer": 3, "n_head": 4}
    return GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, **fields)


SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}
# Longer than the positions of the original training, so that the long factors count.
LONGROPE = {
    **{"rope_type": "longrope", "rope_theta": 500.0, "original_max_position_embeddings": 16},
    **{"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [2.0, 3.0, 4.0, 5.0]},
}


def made(name: str, **fields: Any) -> Callable[[], Any]:
    """The config `name` of transformers at the sizes above."""

    def make() -> Any:
        import transformers

        return getattr(transformers, name)(**{**SIZES, **fields})

    return make


FAMILIES = [
    Family("gpt2", gpt2, 48),
    Family("gpt2, untied", lambda: gpt2(tie_word_embeddings=False, n_inner=96), 48, planned=False),
    Family("llama", made("LlamaConfig"), 64),
    Family(
        "llama, llama3 rope, biases, tied",
        made(
            "LlamaConfig",
            rope_parameters={**LLAMA3, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
            attention_bias=True,
            mlp_bias=True,
            tie_word_embeddings=True,
            head_dim=16,
        ),
        64,
        planned=False,
    ),
    Family("llama, yarn", made("LlamaConfig", rope_parameters=YARN), 64, planned=False),
    Family("mistral", made("MistralConfig", sliding_window=8), 64),
    Family("mixtral", made("MixtralConfig", num_local_experts=4, num_experts_per_tok=2), 64),
    Family("qwen2", made("Qwen2Config", use_sliding_window=True, sliding_window=8, max_window_layers=1), 64),
    Family("qwen3", made("Qwen3Config", head_dim=16), 64),
    Family("gemma", made("GemmaConfig", head_dim=16), 64),
    Family("gemma2", made("Gemma2Config", head_dim=16, sliding_window=8, query_pre_attn_scalar=24), 64),
    Family(
        "gemma3",
        made("Gemma3TextConfig", head_dim=16, sliding_window=8, num_hidden_layers=7, query_pre_attn_scalar=24),
        64,
    ),
    Family("olmo2", made("Olmo2Config"), 64),
    Family("phi3", made("Phi3Config", rope_parameters=LONGROPE, original_max_position_embeddings=16), 64),
]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_agrees_with_transformers(family: Family, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found = compare(family, tmp_path)
    assert found.difference < 1e-4
    assert found.loads and found.identical and found.planned is not False
    note(found, request.config.getoption("--update-golden"))
