"""Pinned names and forbidden mesh axes: the best of all plans that keep to them, as trying every plan finds it."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
from step_models import mlp_step, prepared, raw_gpt, shaped
from typeguard import suppress_type_checks

import ir
import passes
from passes import DeviceMesh, PlanError, pipeline
from passes.hardware.chip import CHIPS
from passes.planner.cost import step_seconds
from passes.planner.solve import Problem
from passes.sharding.rules import ShardingRules

STEPS = {
    "mlp": (lambda: mlp_step(8, 4, 8), {"data": 2, "model": 2}),
    "wide mlp": (lambda: mlp_step(8, 4096, 16384), {"data": 4, "model": 2}),
    "gpt": (lambda: raw_gpt(batch=4, position=15, embed=12, heads=4, vocab=63), {"data": 2}),
}


@cache
def problem_of(name: str) -> Problem:
    step, mesh = STEPS[name]
    return Problem.of(pipeline.prepare(ir.trace(*step())), DeviceMesh.of(mesh), CHIPS["v5e"])


@cache
def every_plan(name: str) -> list[tuple[float, ShardingRules]]:
    """(seconds, rules) of every plan of the space, through nothing but `Problem.price`."""
    problem, found = problem_of(name), []
    space, overlap = problem.space, CHIPS["v5e"].overlap
    for stored in space.storage_choices:
        extra = stored.extra
        for masks in product(*space.options.values()):
            compute = dict(zip(space.options, map(int, masks), strict=True))
            rules = ShardingRules(space.mesh, space.order, compute, extra)
            cost, _ = problem.price(rules)
            found.append((float(step_seconds(cost.compute, cost.activations, cost.hidden, overlap)), rules))
    return found


def keeps(rules: ShardingRules, problem: Problem, pin: dict, forbid: dict) -> bool:
    """Whether a plan keeps to what is pinned, so that at least one array is sharded so, and forbidden."""
    mesh = rules.mesh
    total = {name: mask | int(rules.extra.get(name, 0)) for name, mask in rules.compute.items()}
    total |= {name: mask for name, mask in rules.extra.items() if name not in total}
    layouts = [rules.layout(dict(sizes), role) for sizes, role in problem.shapes]
    return all(
        total.get(name, 0) == mesh.mask(axes) and any(int(each.get(name, 0)) == mesh.mask(axes) for each in layouts)
        for name, axes in pin.items()
    ) and not any(total.get(name, 0) & mesh.mask(axes) for name, axes in forbid.items())


@pytest.mark.parametrize("name", STEPS)
def test_the_search_finds_the_best_plan_that_is_allowed(name: str) -> None:
    problem, mesh = problem_of(name), STEPS[name][1]
    rng, names = random.Random(name), list(problem.space.options)
    with suppress_type_checks():
        for _ in range(4 if name == "gpt" else 8):
            pin = {
                each: tuple(rng.sample(list(mesh), rng.randint(1, len(mesh))))
                for each in rng.sample(names, rng.randint(0, 2))
            }
            forbid = {
                each: (rng.choice(list(mesh)),) for each in rng.sample(names, rng.randint(0, 1)) if each not in pin
            }
            allowed = sorted(seconds for seconds, rules in every_plan(name) if keeps(rules, problem, pin, forbid))
            if not allowed:
                with pytest.raises(PlanError, match="no plan is left"):
                    passes.plan(problem.graph, mesh, pin=pin, forbid=forbid)
                continue
            plan = passes.plan(problem.graph, mesh, pin=pin, forbid=forbid)
            cost, _ = problem.price(plan.rules)
            found = float(step_seconds(cost.compute, cost.activations, cost.hidden, plan.chip.overlap))
            assert found == pytest.approx(allowed[0], rel=1e-9), (pin, forbid)
            assert plan.search is not None and plan.search.optimal
            second = [each for each in allowed if each > allowed[0] * (1 + 1e-6)]
            assert (plan.runner_up.step if plan.runner_up else None) == (
                pytest.approx(second[0], rel=1e-9) if second else None
            )


def test_a_pin_is_said_where_the_plan_gives_its_reasons() -> None:
    with suppress_type_checks():
        plan = passes.plan(prepared("named"), "4x2", pin={"mlp": "model"}, forbid={"vocab": ["model", "data"]})
    assert plan.storage["mlp"] == ("model",) and "vocab" not in plan.storage
    assert plan.reasons["mlp"].startswith("pinned to model; ")
    assert plan.reasons["vocab"] == "forbidden on data, model; replicated: no way of sharding it is faster"


@pytest.mark.parametrize(
    ("pin", "forbid", "message"),
    [
        ({"embd": "data"}, {}, "pin of 'embd': 'step' has no axis of that name; did you mean 'embed'?"),
        ({}, {"vocab": "data"}, "forbid of 'vocab': 'step' has no axis of that name; it has mlp, embed, batch"),
        ({"embed": "modle"}, {}, "pin of 'embed': mesh axis 'modle': this mesh has data, model; did you mean 'model'?"),
        ({}, {"embed": "x"}, "forbid of 'embed': mesh axis 'x': this mesh has data, model"),
        (
            {},
            {"remat": "full"},
            "forbid of 'remat': only mesh axes can be forbidden, to the name of an axis; pin 'remat' to what it is "
            "to be",
        ),
        (
            {"embed": ["data", "model"]},
            {"embed": "model"},
            "'embed' is pinned to model and forbidden there; remove one of the two",
        ),
        (
            {"batch": ["data"]},
            {},
            "pin of 'batch': 6 = 2·3 does not divide by 4 (data=4); set its size to 4 or 8, or shard it over as many "
            "devices as divide it: 1, 2, 3, 6; or pin padding=batch besides",
        ),
    ],
)
def test_constraints_that_contradict_the_step_or_each_other(pin: dict, forbid: dict, message: str) -> None:
    graph = ir.trace(*mlp_step(6, 16, 32))
    with pytest.raises(PlanError) as caught:
        passes.plan(graph, "4x2", pin=pin, forbid=forbid)
    assert str(caught.value) == message


def test_pins_that_leave_no_plan() -> None:
    """The only array has both names, and a mesh axis goes to one of them."""
    graph = ir.trace(lambda state: {"w": state["w"].array * 2}, {"w": shaped("embed mlp", 8, 8)})
    both = passes.plan(graph, "4x2", pin={"embed": "data", "mlp": "model"})
    assert both.storage == {"embed": ("data",), "mlp": ("model",)}
    with pytest.raises(PlanError) as caught:
        passes.plan(graph, "4x2", pin={"embed": "model", "mlp": "model"})
    assert str(caught.value) == (
        "no plan is left: embed=model pinned, mlp=model pinned. A mesh axis goes to one name of an array, and only "
        "one name is stored over axes that it is not computed over; remove one of these, or write the plan by hand"
    )


def test_pins_that_do_not_fit() -> None:
    chip = replace(CHIPS["v5e"], capacity=1000)
    with pytest.raises(PlanError) as caught:
        passes.plan(ir.trace(*mlp_step()), "2", chip, pin={"mlp": "data"})
    assert str(caught.value).startswith("with mlp=data pinned, no plan fits: the leanest on mesh data=2 needs ")


def test_pins_beside_a_whole_plan() -> None:
    with pytest.raises(PlanError) as caught:
        passes.run(ir.trace(*mlp_step()), "2", plan=passes.Plan.by_hand("2", {}), pin={"mlp": "data"})
    assert str(caught.value) == (
        "a whole plan is given, and mlp=data pinned: pins are for the search; edit the plan, or leave it out"
    )
