"""The compiler makes the collectives that were predicted, to the byte: of the programs that `test_lower.py` runs."""

from __future__ import annotations

import pytest
import step_models
from typeguard import suppress_type_checks

import passes
from passes import Plan

pytestmark = pytest.mark.hurried

MESH = {"data": 4, "model": 2}
SOLVED = {
    "4x2": MESH,
    "8x1": {"data": 8, "model": 1},
    "1x8": {"data": 1, "model": 8},
    "2x2x2": {"replica": 2, "data": 2, "model": 2},
}


def three_axes(compute: dict[str, tuple[str, ...]], storage: dict[str, tuple[str, ...]]) -> Plan:
    return Plan.by_hand({"replica": 2, "data": 2, "model": 2}, compute, storage)


MEGATRON = {"mlp": ("model",), "heads": ("model",), "vocab": ("model",)}
BY_HAND = {
    **{name: step_models.hand_plan(name) for name in ("dp", "fsdp", "tp", "sp", "mixed", "mixed_sp")},
    "1x4 sp": step_models.hand_plan("sp", data=1, model=4),
    # Two sums (over batch and position) of which one dim takes both mesh axes.
    "summed twice": Plan.by_hand(MESH, {"batch": ("data",), "position": ("model",)}, {"embed": ("data", "model")}),
    # Dims that gain or lose their outer mesh axis: shards change places.
    "outer axes": Plan.by_hand(
        MESH,
        {"batch": ("data",), "heads": ("model",), "mlp": ("data",), "position": ("data", "model")},
        {"embed": ("data", "model")},
    ),
    "2x2x2 hybrid": three_axes({"batch": ("replica", "data"), **MEGATRON}, {"embed": ("data",)}),
    "2x2x2 everything": three_axes(
        {"batch": ("replica", "data"), **MEGATRON, "position": ("model",)}, {"embed": ("replica", "data")}
    ),
}


@pytest.mark.parametrize("mesh", [*list(SOLVED)[:3], pytest.param("2x2x2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["named"])
def test_the_compiler_makes_the_collectives_of_a_solved_plan(name: str, mesh: str) -> None:
    with suppress_type_checks():
        plan = passes.plan(step_models.prepared(name), SOLVED[mesh], "h100")
    assert step_models.compiled(name, plan).differences() == []


@pytest.mark.parametrize("plan", BY_HAND)
def test_the_compiler_makes_the_collectives_of_a_plan_by_hand(plan: str) -> None:
    step = step_models.compiled("named", BY_HAND[plan])
    assert step.found
    assert step.differences() == []


@pytest.mark.parametrize("plan", ["fsdp", "mixed_sp"])
def test_the_compiler_makes_the_collectives_of_a_raw_step(plan: str) -> None:
    assert step_models.compiled("raw", step_models.hand_plan(plan)).differences() == []


@pytest.mark.parametrize("plan", ["mixed_sp"])
def test_the_compiler_makes_the_collectives_with_checkpointing(plan: str) -> None:
    assert step_models.compiled("named_checkpoint", step_models.hand_plan(plan)).differences() == []


def test_a_wrong_prediction_is_a_surprise() -> None:
    step = step_models.compiled("named", BY_HAND["fsdp"])
    wrong = [{**row, "bytes": row["bytes"] + 4} if i == 0 else row for i, row in enumerate(step.predicted)]
    assert len(step._replace(predicted=wrong).differences()) == 2
    assert step._replace(predicted=step.predicted[1:]).differences()
