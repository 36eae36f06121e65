"""A small model of every family of language models, with its peculiarities, and the configuration of a run of it."""

from __future__ import annotations

from typing import Any

from levanter import config
from levanter.config import TrainConfig

SIZES = {
    "hidden_dim": 32,
    "intermediate_dim": 64,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "seq_len": 32,
    "vocab_size": 61,
    "vocab_multiple": 64,
    "gradient_checkpointing": False,
    "initializer_range": 0.1,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope": {"scaling": "llama3", "factor": 4.0, "original_positions": 16}},
    "mistral": {"sliding_window": 8},
    "mixtral": {"num_experts": 4, "router_z": 0.001},
    "mixtral-slots": {"num_experts": 4, "capacity_factor": 1.25},
    "qwen2": {"sliding_window": 8, "full_layers": 1},
    "qwen3": {"head_dim": 16},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "sliding_window": 8},
    "gemma3": {"head_dim": 16, "sliding_window": 8, "global_every": 2},
    "olmo2": {},
    "phi3": {"rope": {"fraction": 0.5}},
}


def run_of(family: str, **fields: Any) -> TrainConfig:
    """A configuration that trains the small model of a family; `fields` are of the model."""
    model = {**SIZES, **FAMILIES[family], **fields}
    options = [f"--model.type={family.partition('-')[0]}", "--trainer.train_batch_size=16"]
    for name, value in model.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        options += [f"--model.{name}{'.' * bool(part)}{part}={each}" for part, each in inner]
    return config.load("gpt2_nano", [*options, "--optimizer.learning_rate=0.01", "--trainer.num_train_steps=20"])
