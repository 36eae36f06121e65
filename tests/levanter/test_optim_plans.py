"""The step of every optimizer has no finding, does on 8 devices what it does on one, and resumes to the bit."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typeguard import suppress_type_checks

import haliax as hax
import haliax.nn as hnn
import passes
from haliax import Axis, NamedArray
from levanter.checkpoint import load, save
from levanter.compiler import compile as compiler
from levanter.compiler.graphs import check_config
from levanter.config import TrainConfig, loads
from levanter.models import LmModel, ModelConfig
from levanter.models.loss import mean_loss, next_token_loss, output_logits
from levanter.registry import MODELS, OPTIMIZERS
from levanter.runtime import rng
from levanter.runtime.state import (
    LmBatch,
    batch_axes,
    batch_shape,
    flat_names,
    from_flat_names,
    init_state,
    state_shape,
    train_step_of,
)

pytestmark = pytest.mark.hurried

Embed, Mlp, Layers = Axis("embed", 8), Axis("mlp", 8), Axis("layers", 2)


@dataclasses.dataclass(frozen=True)
class SmallConfig(ModelConfig):
    """Few operations, so that the tests are about the optimizer; square maps, so that no eigenvalue is 0."""

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        def linear(In: Axis, Out: Axis, name: str) -> hnn.Linear:
            weight = hax.random.normal(rng.named(key, name), (Layers, In, Out)) * 0.4
            return hnn.Linear(weight, hax.zeros((Layers, Out)), In, Out)

        blocks = {"up": linear(Embed, Mlp, "up"), "down": linear(Mlp, Embed, "down")}
        table = hax.random.normal(rng.named(key, "table"), (Vocab, Embed))
        return Small(table, hnn.Stacked(blocks, Layers, hnn.ScanCheckpointPolicy.of(False)), self.Pos, Vocab)


class Small(LmModel):
    table: NamedArray
    blocks: hnn.Stacked
    Pos: Axis = eqx.field(static=True)
    Vocab: Axis = eqx.field(static=True)

    @property
    def drops_out(self) -> bool:
        return False

    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        x = self.table.take(self.Vocab, tokens, mode="promise_in_bounds")
        for layer in range(Layers.size):
            block = jax.tree.map(
                lambda leaf, layer=layer: leaf[Layers.name, layer], self.blocks.stacked, is_leaf=_is_named
            )
            x = x + block["down"](hax.tanh(block["up"](x)))
        return x

    def logits(self, activations: NamedArray) -> NamedArray:
        return output_logits(activations, self.table, Embed)

    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        losses = next_token_loss(self.activations(tokens), self.table, targets, Embed)
        return mean_loss(losses, targets)


def _is_named(leaf: Any) -> bool:
    return isinstance(leaf, NamedArray)


@pytest.fixture(autouse=True)
def small() -> Any:
    MODELS.add("small", SmallConfig)
    yield
    MODELS.remove("small")


MESH = {"data": 4, "model": 2}
BY_HAND = (
    {"batch": ["data"], "mlp": ["model"], "vocab": ["model"]},
    {"embed": ["data"], "mlp": ["model"], "vocab": ["model"]},
)
SHORT: dict[str, str] = {
    "sophia": "hessian_every: 2, gamma: 0.5",
    "soap": "precondition_every: 2",
}
NAMES = {
    "adamw": {"adam.mu", "adam.nu", "adam.count", "rate.count"},
    "lion": {"lion.mu", "lion.count", "rate.count"},
    "adafactor": {
        "adafactor.factored.count", "adafactor.factored.rows", "adafactor.factored.columns", "adafactor.factored.full",
        "rate.count",
    },
    "sophia": {"sophia.count", "sophia.mu", "sophia.hessian", "rate.count"},
    "muon": {"muon.muon.momentum", "muon.adam.count", "muon.adam.mu", "muon.adam.nu", "rate.count"},
    "soap": {"soap.count", "soap.mu", "soap.nu", "soap.rows", "soap.columns", "rate.count"},
    "schedule_free": {
        f"schedule_free.{name}"
        for name in (
            "b1", "weight_sum", "step_count", "max_lr", "z", "base_optimizer_state.adam.count",
            "base_optimizer_state.adam.mu", "base_optimizer_state.adam.nu", "base_optimizer_state.rate.count",
        )
    },
}  # fmt: skip
"""What the arrays of an optimizer's state are called in a checkpoint, without the names of parameters."""


def config_of(optimizer: str, fields: str = "", trainer: str = "") -> TrainConfig:
    fields = ", ".join(each for each in (SHORT.get(optimizer, ""), fields) if each)
    return loads(
        "model: {type: small, seq_len: 16, vocab_size: 32}\n"
        f"optimizer: {{type: {optimizer}, learning_rate: 0.01, warmup: 0, lr_schedule: constant, {fields}}}\n"
        f"trainer: {{train_batch_size: 16, num_train_steps: 4, {trainer}}}\n"
    )


def batch_of(config: TrainConfig, seed: int) -> LmBatch:
    axes = batch_axes(config)
    ids = np.random.default_rng(seed).integers(0, 32, (axes[0].size, axes[1].size + 1))
    targets = ids[:, 1:].copy()
    targets[seed, : 3 * seed] = -1
    return LmBatch(*(NamedArray(jnp.asarray(part, jnp.int32), axes) for part in (ids[:, :-1], targets)))


@functools.cache
def on_one_device(optimizer: str, fields: str = "", trainer: str = "") -> tuple[Any, list[float]]:
    config = config_of(optimizer, fields, trainer)
    step, state, losses = jax.jit(train_step_of(config)), init_state(config), []
    for at in range(4):
        state, metrics = step(state, batch_of(config, at))
        losses.append(float(metrics["loss"]))
    return state, losses


CASES = [(name, "", "") for name in OPTIMIZERS] + [
    ("adamw", "ema: 0.9", ""),
    ("adamw", 'groups: [{axes: "vocab", learning_rate: 0.1}, {match: "*.bias", weight_decay: 0.3}]', ""),
    ("adamw", "", 'frozen: ["*.up.*"]'),
    ("adamw", "", "microbatches: 4"),
    ("sophia", "", "microbatches: 2"),
]


@pytest.mark.parametrize(
    ("optimizer", "fields", "trainer"),
    [CASES[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:])],
)
def test_eight_devices_do_what_one_does(optimizer: str, fields: str, trainer: str) -> None:
    config = config_of(optimizer, fields, trainer)
    with suppress_type_checks():
        assert check_config(config, ()) == []
        plan = compiler.plan_by_hand(MESH, "v5e", BY_HAND)
        result = compiler.planned(config, MESH, "v5e", plan=plan)
        mesh = passes.device_mesh(result.plan, None)
        shardings, batch_shardings = passes.input_shardings(result.placed, mesh)
        step = passes.lower_placed(result.placed, result.plan, None)
        step = step.lower(state_shape(config), batch_shape(config)).compile()  # type: ignore[attr-defined]
    expected, losses = on_one_device(optimizer, fields, trainer)
    state = jax.device_put(init_state(config), shardings)
    for at in range(4):
        state, metrics = step(state, jax.device_put(batch_of(config, at), batch_shardings))
        assert float(metrics["loss"]) == pytest.approx(losses[at], rel=2e-5)
    tolerance = 5e-3 if optimizer in ("soap", "lion", "sophia") else 1e-4
    for name, array in flat_names(state.model).items():
        np.testing.assert_allclose(
            array, flat_names(expected.model)[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize(
    "optimizer", [each if each == "muon" else pytest.param(each, marks=pytest.mark.slow) for each in OPTIMIZERS]
)
def test_a_run_learns_and_resumes_to_the_bit(optimizer: str, tmp_path: Path) -> None:
    config = config_of(optimizer, "ema: 0.9")
    step, batch = jax.jit(train_step_of(config)), batch_of(config, 0)
    state, losses = init_state(config), []
    for at in range(6):
        if at == 3:
            save(tmp_path, 3, flat_names(state), {})
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[1]

    shapes = state_shape(config)
    resumed = from_flat_names(shapes, load(tmp_path / "step-3", like=flat_names(shapes)))
    for _ in range(3):
        resumed, _ = step(resumed, batch)
    for (name, left), right in zip(flat_names(state).items(), flat_names(resumed).values(), strict=True):
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes(), name

    names = {name.removeprefix("opt_state.base.") for name in flat_names(state) if name.startswith("opt_state.base.")}
    parameters = list(flat_names(state.model))
    assert {_without(name, parameters) for name in names} == NAMES[optimizer]


def _without(name: str, parameters: list[str]) -> str:
    """The name of a state's array without that of its parameter."""
    for parameter in parameters:
        for end in (f".{parameter}", f".{parameter}.basis", f".{parameter}.covariance"):
            if name.endswith(end):
                return name.removesuffix(end)
    return name
