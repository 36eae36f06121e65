"""Every family of decoders that ships writes the same with its cache as without, windows that slide among them."""

from __future__ import annotations

import dataclasses

import jax
import pytest

from levanter import config
from levanter.inference.generate import Generator
from levanter.inference.sampling import Sampling
from levanter.models.parts.config import DecoderConfig
from levanter.registry import MODELS
from levanter.runtime.state import init_state

pytestmark = pytest.mark.hurried

FAMILIES = [name for name in MODELS if issubclass(MODELS[name], DecoderConfig) or name == "gpt2"]
SIZES = {
    "seq_len": 64,
    "vocab_size": 90,
    "hidden_dim": 16,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "intermediate_dim": 32,
    "sliding_window": 8,
    "initializer_range": 0.3,
    "compute_dtype": "float32",
}
PROMPTS = [[5, 6, 7], [1], list(range(20, 57))]


FEW = ("gpt2", "llama", "gemma3", "mixtral")
"""What the others are made of."""


@pytest.mark.parametrize(
    "family", [pytest.param(each, marks=[pytest.mark.slow] * (each not in FEW)) for each in FAMILIES]
)
def test_a_cache_changes_no_token(family: str) -> None:
    fields = {field.name for field in dataclasses.fields(MODELS[family])}
    sizes = ", ".join(f"{name}: {value}" for name, value in SIZES.items() if name in fields)
    model = init_state(config.loads(f"model: {{type: {family}, {sizes}}}")).model
    assert hasattr(model, "extend")
    with_cache, without = (
        Generator(model, 90, Sampling(1.0, None), use_cache=use)(PROMPTS, 20, jax.random.key(0))
        for use in (True, False)
    )
    assert with_cache == without
