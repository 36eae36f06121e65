"""What is read of a checkpoint to be used is what is evaluated: means of weights, with adapters merged where asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haliax import NamedArray
from levanter.adapters.lora.config import LoraConfig
from levanter.adapters.lora.lora import merged
from levanter.checkpoint import save
from levanter.config import TrainConfig
from levanter.models.gpt2.config import Gpt2Config
from levanter.optim.adamw.config import AdamWConfig
from levanter.optim.config import OptimizerConfig
from levanter.optim.schedule_free.config import ScheduleFreeConfig
from levanter.runtime.config import TrainerConfig
from levanter.runtime.evaluated import EvaluatedArrays, load_evaluated
from levanter.runtime.state import (
    LmBatch,
    base_shape,
    batch_axes,
    evaluated_model,
    flat_names,
    init_state,
    train_step_of,
)

pytestmark = pytest.mark.hurried

TINY = TrainConfig(
    model=Gpt2Config(seq_len=4, vocab_size=13, hidden_dim=8, num_heads=2, num_layers=1, initializer_range=0.2),
    trainer=TrainerConfig(train_batch_size=2, num_train_steps=4),
)


@pytest.mark.parametrize("with_adapter", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "optimizer",
    [
        AdamWConfig(learning_rate=0.1, warmup=0.0),
        AdamWConfig(learning_rate=0.1, warmup=0.0, ema=0.5),
        ScheduleFreeConfig(learning_rate=0.1, warmup=0.0),
    ],
    ids=["adamw", "ema", "schedule_free"],
)
def test_a_checkpoint_is_read_as_it_is_evaluated(
    optimizer: OptimizerConfig, with_adapter: bool, tmp_path: Path
) -> None:
    adapter = LoraConfig(rank=2, targets=["mlp"]) if with_adapter else None
    config = dataclasses.replace(TINY, optimizer=optimizer, adapter=adapter)
    axes = batch_axes(config)
    ids = np.random.default_rng(0).integers(0, 13, (axes[0].size, axes[1].size + 1))
    batch = LmBatch(*(NamedArray(jnp.asarray(part, jnp.int32), axes) for part in (ids[:, :-1], ids[:, 1:])))
    step, state = jax.jit(train_step_of(config)), init_state(config)
    for _ in range(2):
        state, _ = step(state, batch)
    save(tmp_path, 2, flat_names(state), {})

    evaluated = evaluated_model(config, state)
    if optimizer.averages:
        moved = "blocks.mlp.up.lora_b" if with_adapter else "blocks.mlp.up.weight"
        assert not np.array_equal(flat_names(evaluated)[moved], flat_names(state.model)[moved])
    found = load_evaluated(config, tmp_path / "step-2")
    for (name, array), wanted in zip(flat_names(found).items(), flat_names(evaluated).values(), strict=True):
        np.testing.assert_array_equal(array, wanted, err_msg=name)

    arrays = EvaluatedArrays(config, tmp_path / "step-2")
    assert list(arrays) == list(flat_names(base_shape(config))) and len(arrays) == len(list(arrays))
    for name, wanted in flat_names(merged(evaluated)).items():
        np.testing.assert_allclose(arrays[name], wanted, rtol=1e-6, atol=1e-7, err_msg=name)
    assert set(arrays.adapter()) == {name for name in flat_names(state.model) if "lora_" in name}
