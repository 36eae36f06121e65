"""Policies of dtypes, and the scale of a loss: what they make of a step, and that a resumed run is the same."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from haliax import named
from levanter import checkpoint
from levanter.compiler.compile import planned
from levanter.config import TrainConfig, dump, loads
from levanter.data import TextDataConfig
from levanter.errors import UserError
from levanter.models.gpt2.config import Gpt2Config
from levanter.models.llama.config import LlamaConfig
from levanter.optim.adamw.config import AdamWConfig
from levanter.runtime.config import LossScaleConfig, TrainerConfig
from levanter.runtime.loss_scale import Scaling, initial
from levanter.runtime.precision import Precision, parse
from levanter.runtime.state import LmBatch, TrainState, batch_axes, init_state, state_shape, train_step_of
from levanter.runtime.trainer import train
from levanter.trackers.records import read, untimed

pytestmark = pytest.mark.hurried

MODEL = Gpt2Config(seq_len=8, vocab_size=100, hidden_dim=8, num_heads=2, num_layers=1)


def config(model: Any = MODEL, **fields: Any) -> TrainConfig:
    trainer = TrainerConfig(train_batch_size=4, num_train_steps=6, **fields)
    return TrainConfig(model=model, optimizer=AdamWConfig(learning_rate=0.01, warmup=0.0), trainer=trainer)


def batch(of: TrainConfig, seed: int = 0) -> LmBatch:
    rng = np.random.default_rng(seed)
    arrays = (rng.integers(0, 100, (4, 8)).astype(np.int32) for _ in range(2))
    return LmBatch(*(named(array, batch_axes(of)) for array in arrays))


@pytest.fixture(scope="module")
def start() -> TrainState:
    """The state before the first step of `config()`."""
    return init_state(config())


def stepped(of: TrainConfig, state: TrainState) -> dict[str, Any]:
    """The metrics of a step from `state`, brought to the dtypes and the scale of a config."""
    like = state_shape(of)
    arrays, wanted = (jax.tree.leaves((each.model, each.opt_state)) for each in (state, like))
    cast = [leaf.astype(one.dtype) for leaf, one in zip(arrays, wanted, strict=True)]
    parts = jax.tree.unflatten(jax.tree.structure((like.model, like.opt_state)), cast)
    return jax.jit(train_step_of(of))(TrainState(state.step, *parts, initial(of.trainer.loss_scale)), batch(of))[1]


@pytest.fixture(scope="module")
def plain(start: TrainState) -> dict[str, Any]:
    return stepped(config(), start)


def _of_the_schedule(path: Any, value: Any) -> bool:
    return "ScaleByScheduleState" in str(path)


def dtypes(of: Any) -> set[str]:
    return {str(leaf.dtype) for leaf in jax.tree.leaves(of)}


def test_a_policy_in_words() -> None:
    assert parse("params=bfloat16, compute=float16,output=bfloat16") == Precision("bfloat16", "float16", "bfloat16")
    assert parse("compute=bfloat16") == Precision(compute="bfloat16")
    assert parse(None) == Precision()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("bfloat16", "bfloat16"),
        ("compute=int8", "compute=int8"),
        ("params=float16", "params=float16"),
        ("compute=float32,compute=float32", "compute=float32"),
        ("", ""),
    ],
)
def test_what_is_no_policy_is_refused(text: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert str(caught.value) == (
        f"trainer.precision is '{text}', and '{part}' is not a part of a policy: write such as "
        "params=float32,compute=bfloat16,output=float32, each at most once (params: float32, bfloat16; compute: "
        "float32, bfloat16, float16; output: float32, bfloat16)"
    )


def test_a_policy_sets_the_fields_of_the_model() -> None:
    found = config(precision="compute=bfloat16,output=bfloat16")
    assert (found.model.compute_dtype, found.model.logits_dtype) == ("bfloat16", "bfloat16")  # type: ignore[attr-defined]
    assert loads(dump(found)) == found
    assert config().model == MODEL
    kept = config(model=dataclasses.replace(MODEL, compute_dtype="bfloat16"), precision="params=float32")
    assert kept.model.compute_dtype == "bfloat16"  # type: ignore[attr-defined]


def test_a_model_that_knows_no_such_dtype_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        Precision(output="bfloat16").applied(AdamWConfig())
    assert str(caught.value) == (
        "trainer.precision has output=bfloat16, which AdamWConfig does not know: leave output out, or give it a field "
        "`logits_dtype` that its model obeys"
    )


@pytest.mark.parametrize("model", [MODEL, LlamaConfig(8, 100, hidden_dim=8, num_heads=2, num_kv_heads=2, num_layers=1)])
def test_each_dtype_is_where_the_policy_says(model: Any, start: TrainState, plain: dict[str, Any]) -> None:
    found = config(model, precision="params=bfloat16,compute=bfloat16,output=bfloat16")
    shape = state_shape(found)
    assert dtypes(shape.model) == {"bfloat16"} and "float32" not in dtypes(shape.opt_state)
    graph = str(planned(found, {"data": 1}, "v5e").graph)
    products = [line for line in graph.splitlines() if "contract" in line and "vocab" in line]
    assert any(line.count("bf16[") for line in products)
    assert dtypes(state_shape(config(model)).model) == {"float32"}
    if model is MODEL:
        half = stepped(found, start)
        assert float(half["loss"]) == pytest.approx(float(plain["loss"]), rel=2e-3)
        assert float(half["grad_norm"]) == pytest.approx(float(plain["grad_norm"]), rel=0.05)


def test_output_changes_what_is_kept_and_not_the_loss(start: TrainState, plain: dict[str, Any]) -> None:
    half = stepped(config(precision="output=bfloat16"), start)
    assert half["loss"] == plain["loss"]
    assert half["grad_norm"] != plain["grad_norm"]
    assert float(half["grad_norm"]) == pytest.approx(float(plain["grad_norm"]), rel=0.01)


def test_a_static_scale_changes_nothing_that_is_not_rounded(start: TrainState, plain: dict[str, Any]) -> None:
    scaled = stepped(config(loss_scale=LossScaleConfig("static", 1024.0)), start)
    assert scaled["loss"] == plain["loss"]
    assert float(scaled["grad_norm"]) == pytest.approx(float(plain["grad_norm"]), rel=1e-6)


def test_float16_loses_small_gradients_without_a_scale() -> None:
    def loss_of(weights: jax.Array) -> jax.Array:
        return (weights.astype("float16") * jnp.float16(1e-3)).sum().astype("float32") * 1e-6

    found = {}
    for kind in ("none", "static"):
        scaling = Scaling(LossScaleConfig(kind, 2.0**15), None)
        loss, gradients = jax.value_and_grad(scaling.scaled(loss_of))(jnp.ones(4))
        found[kind] = scaling.unscaled(loss, gradients)[1]
    np.testing.assert_array_equal(found["none"], 0.0)
    np.testing.assert_allclose(found["static"], 1e-9, rtol=2e-3)


def test_a_dynamic_scale_halves_where_a_gradient_overflows_and_grows_again() -> None:
    found = config(precision="compute=float16", loss_scale=LossScaleConfig("dynamic", 2.0**40, period=2))
    step = jax.jit(train_step_of(found))
    state: TrainState = init_state(found)
    history = []
    for number in range(40):
        before = state
        state, metrics = step(state, batch(found, number))
        history.append((float(metrics["loss_scale"]), bool(metrics["update_skipped"])))
        same = all(
            np.array_equal(one, two)
            for one, two in zip(*map(jax.tree.leaves, (before.model, state.model)), strict=True)
        )
        assert same == bool(metrics["update_skipped"])
        assert int(optax.tree.get(state.opt_state, "count", filtering=_of_the_schedule)) == number + 1
        assert int(state.step) == number + 1 and np.isfinite(metrics["grad_norm"]) and np.isfinite(metrics["loss"])
    skipped = [overflowed for _, overflowed in history]
    first_good = skipped.index(False)
    assert first_good > 10
    assert [scale for scale, _ in history[: first_good + 1]] == [2.0 ** (40 - n) for n in range(first_good + 1)]
    assert history[first_good + 2][0] == 2 * history[first_good][0]


def test_a_gradient_that_overflows_at_the_smallest_scale_is_reported(start: TrainState) -> None:
    broken = dataclasses.replace(start, model=jax.tree.map(lambda leaf: leaf * jnp.nan, start.model))
    metrics = stepped(config(loss_scale=LossScaleConfig("dynamic", 1.0)), broken)
    assert np.isnan(metrics["grad_norm"]) and not metrics["update_skipped"]


def test_a_scale_that_rounds_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        LossScaleConfig("static", 1000.0)
    assert str(caught.value) == (
        "trainer.loss_scale.initial is 1000: it must be a power of two, such as 32768, so that nothing is rounded"
    )


@pytest.mark.slow
def test_a_run_with_a_dynamic_scale_resumes_to_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a text of a few words that says nothing, and says it again. " * 200)
    scaled = config(
        dataclasses.replace(MODEL, vocab_size=50257),
        precision="compute=float16",
        loss_scale=LossScaleConfig("dynamic", 2.0**24, period=2),
        eval_batches=0,
        sample_tokens=0,
    )

    def run(name: str, steps: int) -> None:
        trainer = dataclasses.replace(scaled.trainer, run_dir=str(tmp_path / name), num_train_steps=steps)
        optimizer = dataclasses.replace(scaled.optimizer, lr_schedule="constant")
        data = TextDataConfig(paths=[str(tmp_path / "text.txt")])
        whole = dataclasses.replace(scaled, trainer=trainer, data=data, optimizer=optimizer)
        train(whole, Console(file=io.StringIO()))

    run("once", 6)
    run("twice", 3)
    run("twice", 6)
    once, twice = ([untimed(each) for each in read(tmp_path / name / "metrics.jsonl")] for name in ("once", "twice"))
    assert once == twice
    assert len({each["loss_scale"] for each in once}) > 1
    assert checkpoint.digest(tmp_path / "once") == checkpoint.digest(tmp_path / "twice")
