"""What fills a device, by name, and which name to shard next."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from step_models import hand_plan, mlp_step, prepared

import ir
import passes
from passes import DeviceMesh, Plan, PlanError, pipeline
from passes.hardware.chip import CHIPS
from passes.hardware.memory import ChipMemory
from passes.planner.cost import step_seconds
from passes.planner.filling import filling, next_name
from passes.planner.problem import Problem

PLAIN = replace(CHIPS["v5e"], memory=ChipMemory())


@pytest.mark.parametrize(("name", "layout"), list(product(("mlp", "named"), ("dp", "fsdp", "mixed"))))
def test_what_fills_a_device_adds_up_to_the_peak(name: str, layout: str) -> None:
    problem = Problem.of(prepared(name), DeviceMesh.of({"data": 4, "model": 2}), CHIPS["v5e"])
    rules = hand_plan(layout).rules
    rows = filling(problem.memory, rules, CHIPS["v5e"])
    peak, parts = problem.memory.peak(rules, CHIPS["v5e"].memory)
    assert sum(row.bytes for row in rows) == int(peak)
    for kind, size in parts.items():
        assert sum(row.bytes for row in rows if row.kind == kind) == int(size)
    assert [row.bytes for row in rows] == sorted((row.bytes for row in rows), reverse=True)


def test_the_next_name_is_the_cheapest_of_all_that_make_it_fit() -> None:
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 4096)))
    mesh = DeviceMesh.of({"data": 4, "model": 2})
    plan = Plan.by_hand(mesh, {"batch": "data"}, {}, PLAIN)
    problem = Problem.of(graph, mesh, PLAIN)
    _, peak = problem.price(plan.rules)
    for share in (0.9, 0.6, 0.1):
        chip = replace(PLAIN, capacity=int(share * peak))
        problem = Problem.of(graph, mesh, chip)
        tried = []
        for name, axis, role in product(("mlp", "embed", "batch"), ("data", "model"), ("compute", "storage")):
            if (name, axis) != ("batch", "data") and (name, role) != ("batch", "storage"):
                rules = {"compute": {"batch": ["data"]}, "storage": {}}
                rules[role].setdefault(name, []).append(axis)
                cost, left = problem.price(
                    replace(
                        Plan.by_hand(mesh, rules["compute"], rules["storage"]),
                    ).rules
                )
                seconds = float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap))
                tried.append((seconds, left, name, role, axis))
        found = next_name(problem, plan.rules)
        assert found is not None
        fitting = [each for each in tried if each[1] <= chip.capacity]
        assert (found.peak <= chip.capacity) == bool(fitting)
        if fitting:
            (mine,) = [each for each in tried if each[2:] == (found.name, found.role, found.mesh_axis)]
            assert mine[0] == pytest.approx(min(each[0] for each in fitting))
            assert found.peak == mine[1] and found.saves == peak - mine[1]


def test_nothing_fits_says_what_fills_the_device_and_what_to_shard_next() -> None:
    chip = replace(PLAIN, capacity=2**20)
    with pytest.raises(PlanError) as caught:
        passes.plan(ir.trace(*mlp_step(4, 1031, 1021)), "2", chip)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("no plan fits: the leanest on mesh data=2 needs ")
    assert lines[0] == "what fills the device:"
    assert lines[1:3] == [
        "    4.02 MiB  parameters: 1 array [embed=1031, mlp=1021]",
        "    4.02 MiB  parameters: 1 array [mlp=1021, embed=1031]",
    ]


def test_a_given_plan_that_does_not_fit_says_what_to_shard_next() -> None:
    chip = replace(PLAIN, capacity=3 * 2**20)
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 4096)))
    report = Plan.by_hand({"data": 4, "model": 2}, {"batch": "data"}, {}, chip).report(graph)
    assert report["memory"]["peak"] > report["memory"]["capacity"]
    assert sum(row["bytes"] for row in report["filling"]) == report["memory"]["peak"]
    found = report["shard_next"]
    assert found["peak"] <= report["memory"]["capacity"]
    text = str(Plan.by_hand({"data": 4, "model": 2}, {"batch": "data"}, {}, chip).report(graph))
    assert "What fills the device  the largest of what is held at the peak" in text
    assert f"cheapest to shard next: `{found['name']}` " in text and "and then it fits" in text
    roomy = Plan.by_hand({"data": 4, "model": 2}, {"batch": "data"}).report(graph)
    assert roomy["shard_next"] is None and "What fills the device" not in str(roomy)
