"""What the optimizer keeps its running means in: rounded as said, chosen where it is left to the planner, kept by a
run, pinned, said by a plan."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from made_up_chip import run, small_run, write_chip

from levanter.compiler.compile import planned, report, with_choices
from levanter.compiler.plan_files import PlanFile
from levanter.compiler.question import PlanConfig, read_plan
from levanter.config import TrainConfig
from levanter.errors import UserError
from levanter.optim.adamw.config import AdamWConfig
from levanter.optim.config import OptimizerConfig
from levanter.optim.lion.config import LionConfig
from levanter.optim.moments import kept_as
from levanter.optim.muon.config import MuonConfig
from levanter.optim.soap.config import SoapConfig
from levanter.runtime.state import state_shape
from passes.report.explained import explained
from passes.summary import memory


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return small_run(tmp_path, 4)


def with_dtype(config: TrainConfig, dtype: str | None) -> TrainConfig:
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, moments_dtype=dtype))


def test_each_step_is_that_of_float32_rounded() -> None:
    exact, rounded = optax.scale_by_adam(0.9, 0.95), kept_as("bfloat16", optax.scale_by_adam(0.9, 0.95))
    parameters = {"w": jnp.zeros((64,), jnp.float32)}
    state: Any = rounded.init(parameters)
    for i in range(3):
        gradient = {"w": jnp.asarray(np.random.default_rng(i).normal(size=64), jnp.float32)}
        widened = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.bfloat16 else leaf, state)
        wanted, after = exact.update(gradient, widened)
        made, state = rounded.update(gradient, state)
        assert made["w"].dtype == jnp.float32
        np.testing.assert_array_equal(made["w"], wanted["w"])
        assert state.mu["w"].dtype == state.nu["w"].dtype == jnp.bfloat16
        np.testing.assert_array_equal(state.nu["w"], after.nu["w"].astype(jnp.bfloat16))
    assert int(state.count) == 3 and state.count.dtype == jnp.int32


def test_float32_is_the_transformation_itself() -> None:
    adam = optax.scale_by_adam()
    assert kept_as("float32", adam) is adam
    assert kept_as(None, adam) is adam


@pytest.mark.parametrize("optimizer", [AdamWConfig(), LionConfig(), MuonConfig()], ids=lambda each: type(each).__name__)
def test_the_state_is_half_as_large(config: TrainConfig, optimizer: OptimizerConfig) -> None:
    config = dataclasses.replace(config, optimizer=optimizer)

    def size(each: TrainConfig) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state_shape(each).opt_state))

    counts = sum(4 for leaf in jax.tree.leaves(state_shape(config).opt_state) if leaf.shape == ())
    wide, narrow = size(with_dtype(config, "float32")), size(with_dtype(config, "bfloat16"))
    assert narrow - counts == (wide - counts) // 2


def test_the_planner_takes_the_short_ones_only_where_nothing_else_fits(config: TrainConfig) -> None:
    free, chip = with_dtype(config, None), config.trainer.hardware
    needs = {
        dtype: memory(found.graph, found.plan, found.placed)["peak"]
        for dtype in ("float32", "bfloat16")
        if (found := planned(with_dtype(config, dtype), {"data": 1}, chip))
    }
    found, _, (chosen,) = with_choices(free, {"data": 1}, chip)
    assert chosen.said == "optimizer.moments_dtype: float32: it fits the memory of a device"
    write_chip(config, (needs["float32"] + needs["bfloat16"]) / 2)
    found, _, (chosen,) = with_choices(free, {"data": 1}, chip)
    assert found.optimizer == dataclasses.replace(config.optimizer, moments_dtype="bfloat16")
    assert chosen.said.startswith("optimizer.moments_dtype: bfloat16: with float32 nothing fits, a device needs ")
    assert planned(free, {"data": 1}, chip).plan.moments == "bfloat16"


def test_a_pin_and_a_plan_say_the_dtype(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, hardware="v5e", mesh="data=2"))
    file = tmp_path / "p.yaml"
    found = report(config, {"data": 2}, "v5e", pin={"moments": "bfloat16"}, plan_file=PlanFile("it", file))
    assert found["moments"] == {"dtype": "bfloat16", "reason": "pinned"}
    assert "\nmoments: bfloat16  # pinned\n" in file.read_text()
    plan = read_plan(file, "p.yaml")
    followed = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, plan=plan))
    assert followed.optimizer == dataclasses.replace(config.optimizer, moments_dtype="bfloat16")
    assert planned(followed, {"data": 2}, "v5e").plan.moments == "bfloat16"
    said = report(config, {"data": 2}, "v5e", explain=["moments"])["explained"][0]
    first, other = explained(said)
    assert first == "What the optimizer keeps its running means in: float32."
    assert other.startswith("Moments in bfloat16: a step takes ")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no dtype": ({"moments": "half"}, "--pin moments=half: expected float32, bfloat16, or any"),
    "elastic": (
        {"moments": "any", "deterministic": "elastic"},
        "moments cannot be pinned in an elastic run: its bits depend on them, and are the same under any plan; set "
        "optimizer.moments_dtype",
    ),
    "an optimizer without": (
        {"moments": "bfloat16", "optimizer": SoapConfig()},
        "moments: the optimizer soap has no moments_dtype: leave it out, or use adamw, lion or muon",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_pinned(config: TrainConfig, changes: dict[str, Any], message: str) -> None:
    trainer = dataclasses.replace(
        config.trainer, train_batch_size=32, deterministic=changes.get("deterministic", "fast"), hardware="v5e"
    )
    config = dataclasses.replace(config, trainer=trainer, optimizer=changes.get("optimizer", config.optimizer))
    with pytest.raises(UserError) as caught:
        planned(config, {"data": 1}, "v5e", pin={"moments": changes["moments"]})
    assert str(caught.value) == message


def test_an_elastic_run_has_one_dtype(config: TrainConfig) -> None:
    trainer = dataclasses.replace(config.trainer, train_batch_size=32, deterministic="elastic")
    with pytest.raises(UserError) as caught:
        with_dtype(dataclasses.replace(config, trainer=trainer), None)
    why = "the bits of an elastic run depend on it, and are the same under any plan"
    assert str(caught.value) == (
        f"optimizer.moments_dtype: null lets each plan choose, but {why}: set it to float32 or bfloat16"
    )
    plan = PlanConfig("data=1", moments="bfloat16")
    with pytest.raises(UserError) as caught:
        dataclasses.replace(config, trainer=dataclasses.replace(trainer, plan=plan))
    assert str(caught.value) == (
        f"plan.yaml: `moments` is bfloat16, and optimizer.moments_dtype is float32: {why}: leave it out of the plan, "
        "or set optimizer.moments_dtype to bfloat16 for the whole run"
    )


@pytest.mark.parametrize("dtype", ["bfloat16", None])
def test_a_mean_of_squares_must_not_stand_still(dtype: str | None) -> None:
    with pytest.raises(UserError) as caught:
        AdamWConfig(moments_dtype=dtype, beta2=0.999)
    assert str(caught.value) == (
        f"optimizer.moments_dtype {dtype or 'null, which may become bfloat16,'} and optimizer.beta2 0.999: what a step "
        "adds to the mean of squares would be lost in rounding, and the mean would stand still; set beta2 to 0.98 or "
        "less, or moments_dtype to float32"
    )
    AdamWConfig(moments_dtype="float32", beta2=0.999)
    LionConfig(moments_dtype=dtype, beta2=0.99)


@pytest.mark.hurried
def test_a_run_keeps_what_was_chosen(config: TrainConfig, tmp_path: Path) -> None:
    found = planned(with_dtype(config, "bfloat16"), {"data": 1}, config.trainer.hardware)
    write_chip(config, 1.001 * memory(found.graph, found.plan, found.placed)["peak"])
    free = with_dtype(config, None)
    assert run(free)[0].startswith("optimizer.moments_dtype: bfloat16: with float32 nothing fits")
    kept: dict[str, Any] = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert kept["optimizer"]["moments_dtype"] is None and kept["fixed"]["optimizer.moments_dtype"] == "bfloat16"

    # A resume keeps them where there is more memory: what is in the checkpoint has that dtype.
    write_chip(config, 1e9)
    longer = dataclasses.replace(free.trainer, num_train_steps=3)
    assert not any(line.startswith("optimizer.moments") for line in run(dataclasses.replace(free, trainer=longer)))
    manifest = next((tmp_path / "run" / "checkpoints").glob("step-*3/manifest.json")).read_text()
    assert "bfloat16" in manifest
