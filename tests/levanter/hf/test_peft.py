"""Adapters go out to `peft` and come back: the same logits there, here, and merged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
from haliax import Axis
from levanter.adapters.lora.config import LoraConfig
from levanter.checkpoint import save
from levanter.config import TrainConfig, dump
from levanter.errors import UserError
from levanter.hf import import_model, open_folder
from levanter.hf.runs import export_run
from levanter.models.gpt2.config import Gpt2Config
from levanter.models.llama.config import LlamaConfig
from levanter.models.phi3.config import Phi3Config
from levanter.runtime.config import TrainerConfig
from levanter.runtime.run_directory import open_run
from levanter.runtime.state import TrainState, base_shape, flat_names, from_flat_names, init_state

pytestmark = pytest.mark.hurried

MODELS = {
    "gpt2": Gpt2Config(seq_len=8, vocab_size=29, hidden_dim=8, num_heads=2, num_layers=2, initializer_range=0.3),
    "llama": LlamaConfig(
        seq_len=8, vocab_size=29, hidden_dim=8, intermediate_dim=12, num_layers=2, num_heads=4, num_kv_heads=2,
        initializer_range=0.3,
    ),
}  # fmt: skip
TARGETS = {"gpt2": ["*.attention.*", "*.mlp.up"], "llama": ["*.attention.q", "*.attention.out", "*.mlp.*"]}


def run_of(model: Any, folder: Path, targets: list[str]) -> tuple[TrainConfig, TrainState]:
    """A run with one checkpoint, whose adapter changes something."""
    config = TrainConfig(
        model=model,
        adapter=LoraConfig(rank=3, alpha=6.0, targets=targets),
        trainer=TrainerConfig(train_batch_size=2, num_train_steps=1, run_name="tiny", run_dir=str(folder)),
    )
    state = init_state(config)
    noise = {
        name: np.random.default_rng(at).normal(size=array.shape).astype(np.float32) * 0.3
        for at, (name, array) in enumerate(flat_names(state.model).items())
        if name.endswith("lora_b")
    }
    trained = from_flat_names(state.model, {**flat_names(state.model), **noise})
    state = TrainState(jnp.asarray(1, jnp.int32), trained, state.opt_state)
    with open_run(folder, dump(config)) as run:
        save(run.checkpoints_path, 1, flat_names(state), {})
    return config, state


def tokens_of(config: TrainConfig) -> hax.NamedArray:
    ids = np.random.default_rng(0).integers(0, config.model.vocab_size, (2, config.model.seq_len))
    return hax.named(jnp.asarray(ids, jnp.int32), (Axis("batch", 2), config.model.Pos))


def logits_of(config: TrainConfig, model: Any) -> np.ndarray:
    return np.asarray(jax.jit(lambda model, tokens: model(tokens).array)(model, tokens_of(config)))[..., :29]


@pytest.mark.parametrize("family", list(MODELS))
def test_an_adapter_goes_out_to_peft_and_comes_back(family: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    config, state = run_of(MODELS[family], tmp_path / "run", TARGETS[family])
    ours = logits_of(config, state.model)

    # The base as a folder: a run of the same weights without the adapter.
    base_config = dataclasses.replace(config, adapter=None)
    base = from_flat_names(base_shape(config), flat_names(state.model))
    with open_run(tmp_path / "base_run", dump(base_config)) as run:
        save(run.checkpoints_path, 1, {f"model.{name}": array for name, array in flat_names(base).items()}, {})
    export_run(tmp_path / "base_run", tmp_path / "base")
    export_run(tmp_path / "run", tmp_path / "adapter", adapter=True)
    export_run(tmp_path / "run", tmp_path / "merged")

    ids = torch.tensor(np.asarray(tokens_of(config).array), dtype=torch.long)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    with torch.no_grad():
        without = reference(ids).logits.numpy()
        theirs = peft.PeftModel.from_pretrained(reference, tmp_path / "adapter").eval()(ids).logits.numpy()
        merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()(ids).logits.numpy()
    assert np.abs(without - ours).max() > 1e-2
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    np.testing.assert_allclose(merged, ours, atol=1e-4)

    # Back: our own file, and one that peft itself has written.
    wrapped = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
    )
    wrapped.save_pretrained(tmp_path / "theirs")
    for folder in ("adapter", "theirs"):
        adapter = dataclasses.replace(config.adapter, initialize_from=str(tmp_path / folder))
        again = dataclasses.replace(config, adapter=adapter)
        imported = import_model(open_folder(str(tmp_path / "base")), config.model, base_shape(config))
        found = init_state(again, None, imported)
        for name, array in flat_names(found.model).items():
            if "lora_" in name:
                np.testing.assert_array_equal(array, flat_names(state.model)[name], err_msg=name)
        np.testing.assert_allclose(logits_of(config, found.model), ours, atol=1e-6)


def test_the_folder_is_read_without_torch(tmp_path: Path) -> None:
    config, state = run_of(MODELS["llama"], tmp_path / "run", TARGETS["llama"])
    export_run(tmp_path / "run", tmp_path / "adapter", adapter=True)
    adapter = dataclasses.replace(config.adapter, initialize_from=str(tmp_path / "adapter"))
    found = init_state(dataclasses.replace(config, adapter=adapter))
    for name, array in flat_names(found.model).items():
        np.testing.assert_array_equal(array, flat_names(state.model)[name], err_msg=name)

    def refused(**fields: Any) -> str:
        with pytest.raises(UserError) as caught:
            init_state(dataclasses.replace(config, adapter=dataclasses.replace(adapter, **fields)))
        return str(caught.value).replace(str(tmp_path), "TMP")

    assert refused(rank=4) == "the adapter in TMP/adapter has rank 3, and adapter.rank is 4: set adapter.rank to 3"
    assert refused(alpha=1.0) == (
        "the adapter in TMP/adapter has alpha 6.0, and adapter.alpha is 1.0: set adapter.alpha to 6.0"
    )
    assert refused(targets=["*.attention.q", "*.attention.v"]).startswith(
        "the adapter in TMP/adapter is for other layers than adapter.targets names: it lacks "
        "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight, "
    )
    assert refused(initialize_from=str(tmp_path / "none")) == (
        "TMP/none is not a LoRA adapter: No such file or directory; it needs adapter_config.json and "
        "adapter_model.safetensors, as `peft` writes them"
    )


def test_what_peft_has_no_place_for_is_refused(tmp_path: Path) -> None:
    model = Phi3Config(
        seq_len=8, vocab_size=29, hidden_dim=8, intermediate_dim=12, num_layers=2, num_heads=2, num_kv_heads=2
    )
    run_of(model, tmp_path / "run", ["*.attention.q"])
    with pytest.raises(UserError) as caught:
        export_run(tmp_path / "run", tmp_path / "adapter", adapter=True)
    assert str(caught.value) == (
        "the adapter of `blocks.attention.q` cannot be written for peft: Hugging Face keeps that layer as a part of "
        "`model.layers.{layers}.self_attn.qkv_proj.weight`, which would have one adapter for all its parts. "
        "Export the merged weights: leave out --adapter"
    )
    config = TrainConfig(model=MODELS["gpt2"], trainer=TrainerConfig(run_dir=str(tmp_path / "plain"), run_name="plain"))
    with open_run(tmp_path / "plain", dump(config)) as run:
        save(run.checkpoints_path, 1, flat_names(init_state(config)), {})
    with pytest.raises(UserError) as caught:
        export_run(tmp_path / "plain", tmp_path / "adapter", adapter=True)
    assert str(caught.value) == (
        f"the run in {tmp_path / 'plain'} has no adapter: leave out --adapter to export its weights"
    )
