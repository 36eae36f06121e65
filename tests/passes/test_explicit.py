"""The program of one device: any program under any plan gives what one device gives, with the printed collectives."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
import random_plans
from step_models import collectives_of, shaped
from typeguard import suppress_type_checks

import ir
import passes

QUICK, ALL = 8, 320


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= QUICK)) for seed in range(ALL)]
)
def test_a_random_program_under_a_random_plan(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress_type_checks():
        step, arguments = random_plans.program(seed, random_plans.long_axes(monkeypatch))
        assert random_plans.differences(step, arguments, random_plans.plan(seed)) == []


def test_a_loss_by_the_indices_of_a_sharded_axis_gathers_nothing() -> None:
    def step(weight: Any, x: Any, targets: Any) -> Any:
        def loss_of(weight: Any) -> Any:
            scores = jax.nn.log_softmax(jnp.einsum("bpe,ev->bpv", x.array, weight.array))
            return -jnp.take_along_axis(scores, targets.array[..., None], -1).mean()

        loss, gradient = jax.value_and_grad(loss_of)(weight)
        return jax.tree.map(lambda p, g: p - 0.1 * g, weight, gradient), loss

    arguments = (
        shaped("embed vocab", 16, 32),
        shaped("batch position embed", 4, 8, 16),
        shaped("batch position", 4, 8, dtype=jnp.int32),
    )
    plan = passes.Plan.by_hand({"data": 2, "model": 2}, {"batch": "data", "vocab": "model"})
    placed = passes.run(ir.trace(step, *arguments), plan.mesh, plan=plan).placed
    assert {node.kind for node in collectives_of(placed)} == {"all_reduce"}
