"""Small model folders, made without torch, to be spoiled by tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from levanter.hf.exporting import export_model
from levanter.hf.safetensors import Spec, create_file, read_folder
from levanter.models.check import build
from levanter.models.config import ModelConfig
from levanter.models.gpt2.config import Gpt2Config
from levanter.runtime.state import flat_names

SMALL = Gpt2Config(seq_len=16, vocab_size=50, hidden_dim=8, num_heads=2, num_layers=3, vocab_multiple=16)
COMPANIONS = {
    "config.json": json.dumps({"bos_token_id": 1, "eos_token_id": 2, "something_of_theirs": [1]}).encode(),
    "generation_config.json": b'{"eos_token_id": [2, 3]}\n',
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
}


def shape_of(config: ModelConfig) -> Any:
    return jax.eval_shape(lambda: build(config, jax.random.key(0)))


def random_arrays(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Every array of a model, random; what `vocab` was rounded up by is zero, as an import leaves it."""
    draw = np.random.default_rng(seed)
    arrays = {}
    for name, leaf in flat_names(shape_of(config)).items():
        arrays[name] = draw.normal(size=leaf.shape).astype(leaf.dtype)
        if leaf.shape[0] == config.Vocab.size:
            arrays[name][config.vocab_size :] = 0
    return arrays


def make_folder(path: Path, config: ModelConfig = SMALL, *, dtype: str = "float32", **options: Any) -> Path:
    """A model folder with random weights."""
    like = shape_of(config)
    export_model(path, config, random_arrays(config), like, dtype=dtype, companions=COMPANIONS, **options)
    return path


def rewrite(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change the tensors of a folder with one file."""
    arrays = {name: np.array(tensor.view()) for name, tensor in read_folder(folder).items()}
    change(arrays)
    specs = {name: Spec(array.dtype, array.shape) for name, array in arrays.items()}
    for name, tensor in create_file(folder / "model.safetensors", specs).items():
        tensor.view(write=True)[...] = arrays[name]


def set_config(folder: Path, **fields: Any) -> None:
    """Change fields of config.json; a field set to `...` is removed."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))
