"""Micro-batches give the update of the whole batch, whatever of it is masked, and parts of a model can stand still."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haliax import NamedArray
from levanter.config import TrainConfig, loads
from levanter.errors import UserError
from levanter.models.gpt2.config import Gpt2Config
from levanter.models.loss import IGNORED
from levanter.optim.adamw.config import AdamWConfig
from levanter.optim.config import ParameterGroup
from levanter.optim.schedule_free.config import ScheduleFreeConfig
from levanter.runtime.accumulate import first_microbatch
from levanter.runtime.config import TrainerConfig
from levanter.runtime.evaluate import eval_step, eval_step_of
from levanter.runtime.state import (
    LmBatch,
    batch_axes,
    evaluated_model,
    flat_names,
    init_state,
    initial_state,
    state_shape,
    train_step_of,
)

pytestmark = pytest.mark.hurried

TINY = TrainConfig(
    model=Gpt2Config(
        seq_len=6, vocab_size=29, hidden_dim=8, num_heads=2, num_layers=2, vocab_multiple=16,
        gradient_checkpointing=False, initializer_range=0.2,
    ),
    optimizer=AdamWConfig(learning_rate=0.1, warmup=0.0, lr_schedule="constant"),
    trainer=TrainerConfig(train_batch_size=8, num_train_steps=10),
)  # fmt: skip


def changed(config: TrainConfig = TINY, **sections: Any) -> TrainConfig:
    """The config with fields of its sections changed: `changed(trainer={"microbatches": 2})`."""
    return dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), **fields) for name, fields in sections.items()}
    )


def batch_of(config: TrainConfig, seed: int = 0, masked: bool = True) -> LmBatch:
    """Random tokens; with `masked`, of the targets a ragged part is ignored, in one row all of them."""
    axes = batch_axes(config)
    ids = np.random.default_rng(seed).integers(0, config.model.vocab_size, (axes[0].size, axes[1].size + 1))
    targets = ids[:, 1:].copy()
    if masked:
        lengths = np.random.default_rng(seed + 1).integers(0, axes[1].size + 1, axes[0].size)
        targets[np.arange(axes[1].size) < lengths[:, None]] = IGNORED
        targets[3] = IGNORED
    return LmBatch(*(NamedArray(jnp.asarray(part, jnp.int32), axes) for part in (ids[:, :-1], targets)))


def after(config: TrainConfig, steps: int = 1, masked: bool = True) -> tuple[Any, Any]:
    state, step = init_state(config), jax.jit(train_step_of(config))
    metrics: Any = None
    for at in range(steps):
        state, metrics = step(state, batch_of(config, at, masked))
    return state, metrics


@pytest.mark.parametrize("microbatches", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_microbatches_give_the_update_of_the_whole_batch(microbatches: int) -> None:
    # Plain steps along the gradient: AdamW's first step is the sign of one, which rounding can turn around.
    optimizer = AdamWConfig(
        learning_rate=0.1, warmup=0.0, lr_schedule="constant", epsilon=1.0, weight_decay=0.0, max_grad_norm=None
    )
    config = dataclasses.replace(TINY, optimizer=optimizer)
    state, metrics = after(config)
    parts, numbers = after(changed(config, trainer={"microbatches": microbatches}))
    np.testing.assert_allclose(numbers["loss"], metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(numbers["grad_norm"], metrics["grad_norm"], rtol=1e-6)
    for name, array in flat_names(parts).items():
        np.testing.assert_allclose(array, flat_names(state)[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_a_batch_without_targets_teaches_nothing() -> None:
    config = changed(TINY, trainer={"microbatches": 2}, optimizer={"weight_decay": 0.0})
    batch = batch_of(config)
    nothing = LmBatch(batch.tokens, NamedArray(jnp.full_like(batch.targets.array, IGNORED), batch.targets.axes))
    state = init_state(config)
    new, metrics = jax.jit(train_step_of(config))(state, nothing)
    assert metrics["loss"] == 0 and metrics["grad_norm"] == 0
    for name, array in flat_names(new.model).items():
        np.testing.assert_array_equal(array, flat_names(state.model)[name])


@pytest.mark.slow
def test_every_microbatch_drops_by_its_own_key() -> None:
    config = changed(TINY, model={"dropout": 0.5}, trainer={"microbatches": 4})
    row = batch_of(config, masked=False)
    # All rows are equal: were the keys as well, all micro-batches would have one loss.
    same = LmBatch(
        *(
            NamedArray(jnp.broadcast_to(part.array[:1], part.array.shape), part.axes)
            for part in (row.tokens, row.targets)
        )
    )
    step = jax.jit(train_step_of(config))
    _, metrics = step(init_state(config), same)
    _, again = step(init_state(config), same)
    assert metrics["loss"] == again["loss"]
    from levanter.runtime import rng

    model = init_state(config).model
    part = first_microbatch(same, 4)
    keys = [jax.random.fold_in(rng.step_key(0, 0, "dropout"), at) for at in range(4)]
    losses = [float(model.loss(part.tokens, part.targets, key=key)) for key in keys]
    assert len(set(losses)) == 4
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)


def test_microbatches_share_out_the_batch() -> None:
    with pytest.raises(UserError) as caught:
        TrainerConfig(train_batch_size=12, microbatches=5)
    assert str(caught.value) == (
        "trainer.train_batch_size 12 does not divide into trainer.microbatches 5: "
        "set microbatches to a divisor of it, for example 4"
    )


# --- frozen parts and groups ---


def test_what_is_frozen_stays_and_has_no_state() -> None:
    config = changed(TINY, trainer={"frozen": ["embeddings.*", "model.blocks.mlp.*"]})
    start, (state, _) = init_state(config), after(config, 2)
    moved = {
        name
        for name, array in flat_names(state.model).items()
        if not np.array_equal(array, flat_names(start.model)[name])
    }
    assert moved == {name for name in flat_names(start.model) if not name.startswith(("embeddings.", "blocks.mlp."))}
    of_state = {name.removeprefix("adam.mu.") for name in flat_names(state.opt_state) if name.startswith("adam.mu.")}
    assert of_state == moved


@pytest.mark.slow
def test_a_frozen_part_changes_nothing_for_the_rest() -> None:
    """The gradients of what is trained are those of the whole model."""
    config = changed(TINY, optimizer={"max_grad_norm": None})
    frozen = changed(config, optimizer={"groups": [ParameterGroup(axes="mlp", frozen=True)]})
    (state, _), (other, _) = after(config), after(frozen)
    for name, array in flat_names(other.model).items():
        if "mlp." not in name or name == "blocks.mlp.down.bias":
            np.testing.assert_allclose(array, flat_names(state.model)[name], rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(array, flat_names(init_state(config).model)[name])


def test_groups_set_decay_and_rate() -> None:
    groups = [
        ParameterGroup(match="*.bias", weight_decay=0.5),
        ParameterGroup(match="blocks.mlp.up.bias", weight_decay=0.0),
        ParameterGroup(axes="vocab", learning_rate=0.1),
        ParameterGroup(match="*positions*", weight_decay=0.0, learning_rate=0.0),
    ]
    (plain, _), (grouped, _) = after(TINY), after(changed(TINY, optimizer={"groups": groups}))
    before, plain, grouped = (flat_names(state.model) for state in (init_state(TINY), plain, grouped))
    step = {name: np.asarray(plain[name] - before[name]) for name in before}
    found = {name: np.asarray(grouped[name] - before[name]) for name in before}
    for name in before:
        expected = step[name]
        if name == "embeddings.tokens.weight":
            expected = 0.1 * step[name]
        elif name == "embeddings.positions.weight":
            expected = np.zeros_like(step[name])
        elif name.endswith(".bias") and name != "blocks.mlp.up.bias":
            expected = step[name] - 0.1 * 0.5 * np.asarray(before[name])
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)


BIASES = "blocks.attention_norm.bias"


@pytest.mark.parametrize(
    ("trainer", "groups", "message"),
    [
        ({"frozen": ["embedings.*"]}, [],
         "trainer.frozen: no parameter matches `embedings.*`: did you mean a part of `embeddings.positions.weight`?"),
        ({}, [{"match": "*.mlp.upp.weight", "weight_decay": 0.0}],
         "optimizer.groups: no parameter matches `*.mlp.upp.weight`: did you mean a part of `blocks.mlp.up.weight`?"),
        ({}, [{"axes": "vocabs", "learning_rate": 0.1}],
         "optimizer.groups: no parameter has the axis `vocabs`: did you mean `vocab`?"),
        ({}, [{"axes": "vocab", "match": "*.bias"}],
         "optimizer.groups: no parameter matches `*.bias` and has the axes `vocab`: leave one of the two out"),
        ({"frozen": ["*"]}, [],
         "every parameter is frozen, so there is nothing to train: "
         "make trainer.frozen, or the entries of optimizer.groups with `frozen`, match fewer"),
    ],
)  # fmt: skip
def test_a_pattern_that_means_nothing_is_an_error(trainer: Any, groups: Any, message: str) -> None:
    config = changed(TINY, trainer=trainer, optimizer={"groups": [ParameterGroup(**group) for group in groups]})
    with pytest.raises(UserError) as caught:
        state_shape(config)
    assert str(caught.value) == message


def test_a_group_is_of_something() -> None:
    with pytest.raises(UserError) as caught:
        loads("optimizer: {groups: [{weight_decay: 0.0}]}")
    assert str(caught.value) == (
        "an entry of optimizer.groups says neither `match` nor `axes`: "
        'write which parameters it is for, such as {match: "*.bias"} (set in config:1)'
    )
    assert loads("optimizer: {groups: [{axes: vocab, frozen: true}]}").optimizer.groups == [
        ParameterGroup(axes="vocab", frozen=True)
    ]


# --- what is evaluated ---


@pytest.mark.slow
def test_the_mean_of_the_weights_is_evaluated() -> None:
    config = changed(TINY, optimizer={"ema": 0.9})
    (plain, _), (state, _) = after(TINY, 2), after(config, 2)
    for name, array in flat_names(state.model).items():
        np.testing.assert_array_equal(array, flat_names(plain.model)[name])
    expected = {name: np.asarray(array) for name, array in flat_names(init_state(TINY).model).items()}
    for steps in (1, 2):
        kept = min(0.9, (1 + steps) / (10 + steps))
        new = flat_names(after(TINY, steps)[0].model)
        expected = {name: kept * old + (1 - kept) * np.asarray(new[name]) for name, old in expected.items()}
    evaluated = evaluated_model(config, state)
    for name, array in flat_names(evaluated).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)
    batch = batch_of(config)
    assert eval_step_of(config)(state, batch) == eval_step(evaluated, batch) != eval_step(state.model, batch)
    assert {name.split(".")[0] for name in flat_names(state.opt_state)} == {"count", "average", "base"}


@pytest.mark.slow
def test_the_mean_of_schedule_free_is_evaluated_beside_frozen_parts() -> None:
    config = dataclasses.replace(TINY, optimizer=ScheduleFreeConfig(learning_rate=0.1, warmup=0.0))
    config = changed(config, trainer={"frozen": ["embeddings.*"]})
    state, _ = after(config, 2)
    evaluated, trained, start = (
        flat_names(model) for model in (evaluated_model(config, state), state.model, init_state(config).model)
    )
    assert evaluated.keys() == trained.keys()
    for name, array in evaluated.items():
        if name.startswith("embeddings."):
            np.testing.assert_array_equal(array, start[name])
        else:
            assert not np.array_equal(array, trained[name])


def test_the_state_before_the_first_step_evaluates_as_it_is() -> None:
    config = changed(TINY, optimizer={"ema": 0.9})
    state = jax.jit(lambda: initial_state(config))()
    for name, array in flat_names(evaluated_model(config, state)).items():
        np.testing.assert_array_equal(array, flat_names(state.model)[name])
