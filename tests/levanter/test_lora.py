"""LoRA in the tree of a model: what is adapted, trained, merged and planned."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.adapters.lora.config import LoraConfig
from levanter.adapters.lora.lora import adapted, dropped, linear_layers, merged
from levanter.config import TrainConfig, loads
from levanter.errors import UserError
from levanter.models.gpt2.config import Gpt2Config
from levanter.models.mixtral.config import MixtralConfig
from levanter.optim.adamw.config import AdamWConfig
from levanter.runtime.config import TrainerConfig
from levanter.runtime.state import LmBatch, batch_axes, flat_names, init_state, state_shape, train_step_of

pytestmark = pytest.mark.hurried

TINY = TrainConfig(
    model=Gpt2Config(seq_len=6, vocab_size=29, hidden_dim=8, num_heads=2, num_layers=2, initializer_range=0.2),
    adapter=LoraConfig(rank=2, targets=["*.attention.qkv", "mlp"]),
    optimizer=AdamWConfig(learning_rate=0.05, warmup=0.0, lr_schedule="constant"),
    trainer=TrainerConfig(train_batch_size=4, num_train_steps=10),
)
ADAPTED = ("blocks.attention.qkv", "blocks.mlp.up", "blocks.mlp.down")


def batch_of(config: TrainConfig, seed: int = 0) -> LmBatch:
    axes = batch_axes(config)
    ids = np.random.default_rng(seed).integers(0, config.model.vocab_size, (axes[0].size, axes[1].size + 1))
    return LmBatch(*(NamedArray(jnp.asarray(part, jnp.int32), axes) for part in (ids[:, :-1], ids[:, 1:])))


def trained(config: TrainConfig, steps: int = 3) -> tuple[Any, list[float]]:
    state, step, losses = init_state(config), jax.jit(train_step_of(config)), []
    for _ in range(steps):
        state, metrics = step(state, batch_of(config))
        losses.append(float(metrics["loss"]))
    return state, losses


def test_only_the_adapter_is_trained() -> None:
    base, start = init_state(dataclasses.replace(TINY, adapter=None)).model, init_state(TINY)
    names = {f"{layer}.lora_{side}" for layer in ADAPTED for side in "ab"}
    assert set(flat_names(start.model)) - set(flat_names(base)) == names
    for name, array in flat_names(base).items():
        np.testing.assert_array_equal(array, flat_names(start.model)[name])
    batch = batch_of(TINY)
    assert start.model.loss(batch.tokens, batch.targets) == base.loss(batch.tokens, batch.targets)

    state, losses = trained(TINY)
    assert losses[2] < losses[1] < losses[0]
    moved = {
        name
        for name, array in flat_names(state.model).items()
        if not np.array_equal(array, flat_names(start.model)[name])
    }
    assert moved == names
    assert {
        name.removeprefix("adam.mu.") for name in flat_names(state.opt_state) if name.startswith("adam.mu.")
    } == names


def test_the_matrices_have_the_axes_of_the_layer() -> None:
    layers = linear_layers(state_shape(TINY).model)
    qkv = layers["blocks.attention.qkv"]
    assert [axis.name for axis in qkv.lora_a.axes] == ["layers", "embed", "lora_rank"]
    assert [axis.name for axis in qkv.lora_b.axes] == ["layers", "lora_rank", "qkv", "heads", "head_size"]
    assert not hasattr(layers["blocks.attention.out"], "lora_a")


def test_a_merged_model_computes_the_same() -> None:
    state, _ = trained(TINY)
    plain = merged(state.model)
    assert set(flat_names(plain)) == set(flat_names(init_state(dataclasses.replace(TINY, adapter=None)).model))
    batch = batch_of(TINY, 1)
    np.testing.assert_allclose(plain(batch.tokens).array, state.model(batch.tokens).array, rtol=1e-5, atol=1e-5)
    assert not np.allclose(plain(batch.tokens).array, init_state(TINY).model(batch.tokens).array, atol=1e-3)


def test_the_change_counts_alpha_over_rank() -> None:
    assert LoraConfig(rank=8, alpha=4.0).scale == 0.5
    assert LoraConfig(rank=16, alpha=4.0, rank_stabilized=True).scale == 1.0
    In, Out = Axis("embed", 3), Axis("mlp", 5)
    layer = hnn.Linear(hax.zeros((In, Out)), None, In, Out)
    with_one = adapted(LoraConfig(rank=2, alpha=6.0, targets=["mlp"]), layer, jax.random.key(0))
    b = hax.random.normal(jax.random.key(1), with_one.lora_b.axes)
    with_one = dataclasses.replace(with_one, lora_b=b)
    x = hax.random.normal(jax.random.key(2), (Axis("batch", 4), In))
    expected = 3.0 * x.array @ with_one.lora_a.array @ b.array
    np.testing.assert_allclose(with_one(x).array, expected, rtol=1e-5)
    np.testing.assert_allclose(merged(with_one)(x).array, expected, rtol=1e-5)


@pytest.mark.parametrize("capacity_factor", [None, 4.0])
@pytest.mark.slow
def test_experts_have_adapters_of_their_own(capacity_factor: float | None) -> None:
    model = MixtralConfig(
        seq_len=6, vocab_size=29, hidden_dim=8, intermediate_dim=8, num_layers=2, num_heads=2, num_kv_heads=2,
        initializer_range=0.2, capacity_factor=capacity_factor,
    )  # fmt: skip
    config = dataclasses.replace(TINY, model=model, adapter=LoraConfig(rank=2, targets=["*.experts.gate", "*.down"]))
    state, losses = trained(config)
    assert losses[2] < losses[0]
    layers = {name: layer for name, layer in linear_layers(state.model).items() if hasattr(layer, "lora_a")}
    assert {name.rpartition(".")[2] for name in layers} == {"gate", "down"}
    for layer in layers.values():
        assert [axis.name for axis in layer.lora_a.axes][:2] == ["layers", "experts"]
        assert np.asarray(layer.lora_b.array).any()
    batch = batch_of(config, 1)
    np.testing.assert_allclose(
        merged(state.model)(batch.tokens).array, state.model(batch.tokens).array, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_dropout_drops_inputs_of_the_adapter_while_training() -> None:
    config = dataclasses.replace(TINY, adapter=dataclasses.replace(TINY.adapter, dropout=0.5))
    model = trained(config)[0].model
    other = dropped(model, 0.5, jax.random.key(0))
    before, after = (np.asarray(linear_layers(each)["blocks.mlp.up"].lora_a.array) for each in (model, other))
    rows = np.all(after == 0, axis=-1)
    assert 0 < rows.sum() < rows.size
    np.testing.assert_allclose(after[~rows], 2 * before[~rows], rtol=1e-6)
    batch, state = batch_of(config), init_state(config)
    # At first the adapter changes nothing, whatever is dropped; then it does.
    step = jax.jit(train_step_of(config))
    first, metrics = step(state, batch)
    assert metrics["loss"] == jax.jit(lambda model: model.loss(batch.tokens, batch.targets))(state.model)
    second, metrics = step(first, batch)
    assert metrics["loss"] != jax.jit(lambda model: model.loss(batch.tokens, batch.targets))(first.model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{targets: ["*.atention.*"]}',
         "adapter.targets: no linear layer matches `*.atention.*`: did you mean a part of `blocks.attention.out`? "
         "(a target is a pattern of names, or the name of an axis of a layer's input or output)"),
        ("{targets: [mpl]}",
         "adapter.targets: no linear layer matches `mpl`: did you mean `mlp`? "
         "(a target is a pattern of names, or the name of an axis of a layer's input or output)"),
    ],
)  # fmt: skip
def test_a_target_that_means_nothing_is_an_error(text: str, message: str) -> None:
    read = loads(f"adapter: {text}").adapter
    with pytest.raises(UserError) as caught:
        state_shape(dataclasses.replace(TINY, adapter=read))
    assert str(caught.value) == message


def test_the_config_has_a_section() -> None:
    config = loads("adapter: {type: lora, rank: 4, alpha: 8, targets: [mlp], dropout: 0.1}")
    assert config.adapter == LoraConfig(rank=4, alpha=8.0, targets=["mlp"], dropout=0.1)
    assert loads("adapter: null").adapter is None and TrainConfig().adapter is None
    with pytest.raises(UserError) as caught:
        loads("adapter: {targets: []}")
    assert str(caught.value).startswith(
        "adapter.targets is empty, so there is nothing to train: name layers, such as *.attention.*"
    )
