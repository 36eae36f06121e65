"""What gradients are kept in until the update: as said, chosen where it is left to the planner, kept by a run, pinned,
said by a plan."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from made_up_chip import run, small_run, write_chip

from haliax import Axis, NamedArray
from levanter.compiler.compile import planned, report, with_choices
from levanter.compiler.plan_files import PlanFile
from levanter.compiler.question import PlanConfig, read_plan
from levanter.config import TrainConfig
from levanter.errors import UserError
from levanter.runtime.accumulate import loss_and_gradients, sharded_loss_and_gradients
from levanter.runtime.record import open_choices, with_fixed
from levanter.runtime.state import LmBatch
from passes.report.explained import explained
from passes.summary import memory


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return small_run(tmp_path, 4)


def changed(config: TrainConfig, **fields: Any) -> TrainConfig:
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, **fields))


def loss_of(parameters: Any, batch: LmBatch, key: Any) -> jax.Array:
    rows = parameters["w"][batch.tokens.array]
    return jnp.mean(jnp.sum(rows * rows, axis=-1)) + jnp.sum(parameters["short"]).astype(jnp.float32)


def batch_of(*sizes: int) -> LmBatch:
    names = ("virtual_shard", "batch", "position")[3 - len(sizes) :]
    axes = tuple(Axis(name, size) for name, size in zip(names, sizes, strict=True))
    tokens = NamedArray(jnp.asarray(np.random.default_rng(0).integers(0, 16, sizes), jnp.int32), axes)
    return LmBatch(tokens, tokens)


@pytest.mark.parametrize(
    ("gradients_of", "batch", "microbatches"),
    [
        (loss_and_gradients, batch_of(8, 4), 1),
        (loss_and_gradients, batch_of(8, 4), 4),
        (sharded_loss_and_gradients, batch_of(4, 4, 4), 2),
    ],
    ids=["whole", "micro-batches", "virtual shards"],
)
def test_gradients_have_the_dtype_and_no_more_digits_than_their_parameter(gradients_of, batch, microbatches) -> None:
    parameters = {"w": jnp.linspace(-1, 1, 64).reshape(16, 4), "short": jnp.ones((4,), jnp.bfloat16)}
    _, exact = gradients_of(loss_of, parameters, batch, None, microbatches)
    _, same = gradients_of(loss_of, parameters, batch, None, microbatches, "float32")
    _, short = gradients_of(loss_of, parameters, batch, None, microbatches, "bfloat16")
    assert exact["w"].dtype == same["w"].dtype == jnp.float32 and short["w"].dtype == jnp.bfloat16
    assert exact["short"].dtype == same["short"].dtype == short["short"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(exact["w"], same["w"])
    np.testing.assert_allclose(short["w"].astype(jnp.float32), exact["w"], rtol=2e-2, atol=1e-3)


def test_the_sums_of_micro_batches_are_half_as_large(config: TrainConfig) -> None:
    """`null` takes bfloat16 where float32 does not fit, and only there."""
    config = changed(config, microbatches=2)
    chip, free = config.trainer.hardware, changed(config, gradients_dtype=None)
    needs: dict[str, int] = {}
    for dtype in ("float32", "bfloat16"):
        found = planned(changed(config, gradients_dtype=dtype), {"data": 1}, chip)
        held = memory(found.graph, found.plan, found.placed)
        needs[dtype] = held["peak"]
    parameters = held["parameters"]
    assert needs["float32"] - needs["bfloat16"] >= 0.4 * parameters
    _, _, (chosen,) = with_choices(free, {"data": 1}, chip)
    assert chosen.said == "trainer.gradients_dtype: float32: it fits the memory of a device"
    write_chip(config, (needs["float32"] + needs["bfloat16"]) / 2)
    found, _, (chosen,) = with_choices(free, {"data": 1}, chip)
    assert found.trainer.gradients_dtype == "bfloat16"
    assert chosen.said.startswith("trainer.gradients_dtype: bfloat16: with float32 nothing fits, a device needs ")
    assert planned(free, {"data": 1}, chip).plan.gradients == "bfloat16"


def test_a_pin_and_a_plan_say_the_dtype(config: TrainConfig, tmp_path: Path) -> None:
    config = changed(config, hardware="v5e", mesh="data=2", microbatches=2)
    file = tmp_path / "p.yaml"
    found = report(config, {"data": 2}, "v5e", pin={"gradients": "bfloat16"}, plan_file=PlanFile("it", file))
    assert found["gradients"] == {"dtype": "bfloat16", "reason": "pinned"}
    assert "\ngradients: bfloat16  # pinned\n" in file.read_text()
    followed = changed(config, plan=read_plan(file, "p.yaml"))
    assert followed.trainer.gradients_dtype == "bfloat16"
    assert planned(followed, {"data": 2}, "v5e").plan.gradients == "bfloat16"
    first, other = explained(report(config, {"data": 2}, "v5e", explain=["gradients"])["explained"][0])
    assert first == "What gradients are kept in: float32."
    assert other.startswith("Gradients in bfloat16: a step takes ")


def test_sums_of_micro_batches_are_sent_in_half_the_bytes(config: TrainConfig) -> None:
    def sent(dtype: str) -> int:
        short = changed(config, microbatches=2, gradients_dtype=dtype)
        rows = report(short, {"data": 2}, "v5e", by_hand=({"batch": ["data"]}, {}))["collectives"]
        return sum(row["bytes"] * row["count"] for row in rows if row["moving"] == "gradient")

    assert 0 < sent("bfloat16") <= 0.5 * sent("float32")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no dtype": ({"gradients": "half"}, "--pin gradients=half: expected float32, bfloat16, or any"),
    "elastic": (
        {"gradients": "any", "deterministic": "elastic"},
        "gradients cannot be pinned in an elastic run: its bits depend on them, and are the same under any plan; set "
        "trainer.gradients_dtype",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_pinned(config: TrainConfig, changes: dict[str, Any], message: str) -> None:
    config = changed(config, train_batch_size=32, deterministic=changes.get("deterministic", "fast"), hardware="v5e")
    with pytest.raises(UserError) as caught:
        planned(config, {"data": 1}, "v5e", pin={"gradients": changes["gradients"]})
    assert str(caught.value) == message


def test_an_elastic_run_has_one_dtype(config: TrainConfig) -> None:
    config = changed(config, train_batch_size=32, deterministic="elastic")
    with pytest.raises(UserError) as caught:
        changed(config, gradients_dtype=None)
    why = "the bits of an elastic run depend on it, and are the same under any plan"
    assert str(caught.value) == (
        f"trainer.gradients_dtype: null lets each plan choose, but {why}: set it to float32 or bfloat16"
    )
    with pytest.raises(UserError) as caught:
        changed(config, plan=PlanConfig("data=1", gradients="bfloat16"))
    assert str(caught.value) == (
        f"plan.yaml: `gradients` is bfloat16, and trainer.gradients_dtype is float32: {why}: leave it out of the plan, "
        "or set trainer.gradients_dtype to bfloat16 for the whole run"
    )


def test_a_run_fixes_what_is_open(config: TrainConfig) -> None:
    assert open_choices(changed(config, gradients_dtype=None)) == ("trainer.gradients_dtype",)
    fixed = with_fixed(changed(config, gradients_dtype=None), {"trainer.gradients_dtype": "bfloat16"})
    assert fixed.trainer.gradients_dtype == "bfloat16" and open_choices(fixed) == ()


@pytest.mark.slow
def test_a_run_keeps_what_was_chosen(config: TrainConfig, tmp_path: Path) -> None:
    config = changed(config, microbatches=2)
    found = planned(changed(config, gradients_dtype="bfloat16"), {"data": 1}, config.trainer.hardware)
    write_chip(config, 1.001 * memory(found.graph, found.plan, found.placed)["peak"])
    free = changed(config, gradients_dtype=None)
    assert run(free)[0].startswith("trainer.gradients_dtype: bfloat16: with float32 nothing fits")
    kept: dict[str, Any] = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert kept["trainer"]["gradients_dtype"] is None and kept["fixed"]["trainer.gradients_dtype"] == "bfloat16"
