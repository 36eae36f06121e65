"""The models that are no language models against `transformers`: images in, labels out; sound in, text out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the reference is PyTorch's: pip install -e '.[parity]'")

import jax
import torch
from parity import Found, note, random_weights, tensor_bytes, warnings_of_transformers

import haliax as hax
import ir
import passes
from levanter.hf.exporting import export_model
from levanter.hf.folder import open_folder
from levanter.hf.importing import import_model
from levanter.runtime.state import flat_names


def vit() -> tuple[Any, dict[str, np.ndarray]]:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = ViTConfig(**sizes, image_size=16, patch_size=4, num_labels=5)
    images = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    return ViTForImageClassification(config), {"pixel_values": images}


def whisper() -> tuple[Any, dict[str, np.ndarray]]:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    sizes = {"d_model": 32, "encoder_layers": 3, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 64}
    config = WhisperConfig(
        **sizes,
        **{"vocab_size": 99, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 16},
        **{"encoder_attention_heads": 4, "decoder_attention_heads": 2},
        **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
        begin_suppress_tokens=None,
    )
    random = np.random.default_rng(0)
    sound = random.normal(size=(3, 8, 40)).astype(np.float32)
    tokens = random.integers(0, 99, (3, 11))
    return WhisperForConditionalGeneration(config), {"input_features": sound, "decoder_input_ids": tokens}


AXES = {
    "pixel_values": ("batch", "channels", "height", "width"),
    "input_features": ("batch", "mel", "frame"),
    "decoder_input_ids": ("batch", "position"),
}


@pytest.mark.parametrize("make", [vit, whisper], ids=lambda make: make.__name__)
def test_a_model_agrees_with_transformers(make: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    reference, inputs = make()
    random_weights(reference)
    reference.save_pretrained(tmp_path / "theirs")
    opened = open_folder(str(tmp_path / "theirs"))
    config: Any = opened.model_config()
    like = jax.eval_shape(lambda: config.build(key=jax.random.key(0)))
    model = import_model(opened, config, like)

    theirs = logits_of(reference, inputs)
    named = [
        hax.named(each.astype(np.int32 if each.dtype == np.int64 else each.dtype), AXES[name])
        for name, each in inputs.items()
    ]
    ours = jax.jit(lambda model, *inputs: model(*inputs))(model, *named)
    ours = np.asarray(ours.rearrange(("batch", ...)).array)[..., : theirs.shape[-1]]
    difference = float(np.abs(ours - theirs).max())
    assert difference < 1e-4

    companions = {path.name: path.read_bytes() for path in opened.companions()}
    export_model(tmp_path / "ours", config, flat_names(model), like, companions=companions)
    with warnings_of_transformers() as warned:
        again, info = type(reference).from_pretrained(tmp_path / "ours", output_loading_info=True)
        loads = np.array_equal(logits_of(again.eval(), inputs), theirs)
    assert not [key for key, value in info.items() if value] and not warned
    identical = tensor_bytes(tmp_path / "theirs") == tensor_bytes(tmp_path / "ours")
    assert loads and identical
    planned = is_planned(model, named)
    note(Found(make.__name__, difference, loads, identical, planned), request.config.getoption("--update-golden"))


def is_planned(model: Any, inputs: list[hax.NamedArray]) -> bool:
    """Whether its gradient is planned for 4x2, without a finding."""

    def gradient(model: Any, *inputs: hax.NamedArray) -> Any:
        return jax.grad(lambda model: hax.sum(hax.square(model(*inputs))).scalar())(model)

    graph = ir.trace(gradient, model, *inputs)
    return not passes.axis_findings(graph) and bool(passes.plan(graph, "4x2").order)


def logits_of(model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return model(**{name: torch.tensor(each) for name, each in inputs.items()}).logits.numpy()
