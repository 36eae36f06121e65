"""Every family trains as it did, its axes agree, and its step on a mesh is what the plan says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small import FAMILIES, run_of
from typeguard import suppress_type_checks

import haliax as hax
from levanter.compiler.compile import report
from levanter.compiler.graphs import check_config
from levanter.runtime.state import LmBatch, batch_axes, init_state, train_step_of

pytestmark = pytest.mark.hurried

CURVES = Path(__file__).parents[2] / "golden" / "losses.json"
STEPS = 6


def quick(*families: str) -> list[Any]:
    """Parameters of a test: families that stand for the others; those are slow."""
    few = ("llama", "mixtral", "gemma3")
    return [each if each in few else pytest.param(each, marks=pytest.mark.slow) for each in families]


def losses_of(family: str) -> list[float]:
    """The losses of the first steps on one batch: texts that count up, from a place of their own."""
    config = run_of(family)
    Batch, Pos = batch_axes(config)
    counted = (np.arange(Batch.size)[:, None] * 5 + np.arange(Pos.size + 1)) % config.model.vocab_size
    batch = LmBatch(*(hax.named(part.astype(np.int32), (Batch, Pos)) for part in (counted[:, :-1], counted[:, 1:])))
    state, step = init_state(config), jax.jit(train_step_of(config))
    losses = []
    for _ in range(STEPS):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return losses


def losses_of_example(name: str) -> list[float]:
    """The losses of the first steps of an example."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[3] / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.train(None, steps=STEPS)


@pytest.mark.parametrize("family", quick(*FAMILIES, "vit_images", "whisper_speech"))
def test_the_loss_curve_is_the_one_it_was(family: str, request: pytest.FixtureRequest) -> None:
    losses = losses_of(family) if family in FAMILIES else losses_of_example(family)
    version = ".".join(jax.__version__.split(".")[:2])
    assert losses[-1] < losses[0] * 0.85
    curves = json.loads(CURVES.read_text())
    if request.config.getoption("--update-golden"):
        curves.setdefault(family, {})[version] = [round(loss, 6) for loss in losses]
        CURVES.write_text(json.dumps(curves, indent=1, sort_keys=True) + "\n")
        return
    # Versions differ in the last digits only, so one that has no curve of its own is held against another's.
    known = curves[family]
    np.testing.assert_allclose(losses, known.get(version, next(iter(known.values()))), rtol=1e-3)


@pytest.mark.parametrize("family", quick(*FAMILIES))
def test_its_axes_agree(family: str) -> None:
    assert check_config(run_of(family), ()) == []


@pytest.mark.parametrize(
    "family",
    [each if each == "llama" else pytest.param(each, marks=pytest.mark.slow) for each in FAMILIES],
)
def test_the_compiled_step_is_the_planned_one(family: str) -> None:
    found = report(run_of(family), {"data": 4, "model": 2}, "v5e", verify=True)
    assert found["verify"]["surprises"] == []
    assert found["axes"]


PLANS: dict[str, tuple[dict[str, int], dict[str, list[str]], dict[str, list[str]]]] = {
    "fsdp": ({"data": 8}, {"batch": ["data"]}, {"embed": ["data"]}),
    "megatron": (
        {"data": 4, "model": 2},
        {"batch": ["data"], **dict.fromkeys(("mlp", "heads", "kv_heads", "vocab", "experts"), ["model"])},
        {"embed": ["data"]},
    ),
    "sequence": (
        {"data": 2, "model": 4},
        {"batch": ["data"], "position": ["model"]},
        {"embed": ["data"], "vocab": ["model"]},
    ),
    "three axes": (
        {"replica": 2, "data": 2, "model": 2},
        {"batch": ["data"], "mlp": ["replica", "model"], "heads": ["model"], "vocab": ["model", "replica"]},
        {"embed": ["data", "replica"]},
    ),
}


@pytest.mark.parametrize(
    "plan", [each if each == "megatron" else pytest.param(each, marks=pytest.mark.slow) for each in PLANS]
)
@pytest.mark.parametrize("family", quick(*FAMILIES))
def test_the_step_proves_under_plans_by_hand(family: str, plan: str) -> None:
    mesh, compute, storage = PLANS[plan]
    with suppress_type_checks():
        found = report(run_of(family), mesh, "v5e", by_hand=(compute, storage))
    assert found["proof"]["values"] > 700 and found["proof"]["assumptions"] == []


@pytest.mark.parametrize(
    "compute",
    [
        pytest.param({"batch": ["data"], "experts": ["model"], "kv_heads": ["model"]}, marks=pytest.mark.slow),
        pytest.param({"batch": ["data"], "experts": ["data"]}, marks=pytest.mark.slow),
    ],
    ids=["beside", "on the axis of the batch"],
)
def test_experts_lie_on_an_axis_of_the_mesh(compute: dict[str, list[str]]) -> None:
    by_hand = (compute, {"embed": ["data"]})
    found = report(run_of("mixtral-slots"), {"data": 4, "model": 2}, "v5e", by_hand=by_hand, verify=True)
    assert found["verify"]["surprises"] == []
    weights = next(each for each in found["parameters"] if each["path"].endswith("experts.gate.weight"))
    assert weights["bytes_per_device"] * 2 <= weights["bytes"]
