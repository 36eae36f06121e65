"""The price of a plan, against what is counted in the partitioned graph: by another way, with formulas of its own.

The search adds up tables that it makes of sharding rules. Here no rule is asked and no table made: the plan is carried
out, and each collective and each product of the text that comes of it is priced where it stands.
"""

from __future__ import annotations

import importlib
import random
import warnings
from math import prod
from typing import Any

import numpy as np
import pytest
from random_plans import prepared_program
from step_models import raw_gpt
from typeguard import suppress_type_checks

import ir
import passes
from ir.graph import Graph, Node
from ir.ops import entered, op_of
from ir.types import item_size
from passes import pipeline
from passes.hardware.chip import CHIPS, Chip
from passes.planner.candidate import Candidate
from passes.planner.cost import step_seconds
from passes.planner.problem import Problem
from passes.planner.traffic import traffic
from passes.sharding.mesh import DeviceMesh
from passes.sharding.state import STATE_KINDS
from passes.stage import Stage

MESHES = ({"data": 4}, {"data": 2, "model": 2}, {"replica": 2, "data": 2, "model": 2})
HOP = 1e-6
KERNEL = 1.2e-6
PLANS = 3
"""Of each graph."""
STORED = (STATE_KINDS, ("gradients", "optimizer"), ("optimizer",), ("parameters", "optimizer"), ())
"""Kinds of state that plans store over storage axes."""


def collective_seconds(
    kind: str, axes: list[str], volume: float, mesh: dict[str, int], chip: Chip, awaited: bool
) -> float:
    """Of meshes with at most four chips on an island: on a torus each doubling is one more link, and one more hop."""
    slow = {axis: axis == "replica" and not chip.switched for axis in mesh}
    near, hosts = (prod(mesh[axis] for axis in axes if slow[axis] is each) for each in (False, True))
    links = 1 if chip.switched else max(1, near.bit_length() - 1)
    latency = 0.0 if chip.switched else (near.bit_length() - 1) * HOP
    launch = (10e-6 if chip.switched and near > 1 else 0.0) + (10e-6 if hosts > 1 else 0.0)
    if not awaited and (kind == "all_reduce" or (chip.switched and kind in ("all_gather", "reduce_scatter"))):
        share = max(1 / 8, min(1.0, volume / (30e6 if chip.switched else 8e6)))
        launch, latency = launch * share, latency * share
    far = chip.slow_per_host / chip.host
    if kind == "permute":
        return launch + max(latency, volume / (far if hosts > 1 else chip.link * links))
    first = max(latency, (near - 1) / near * volume / (chip.link * links))
    after = (hosts - 1) / hosts * volume / near / far
    if kind == "all_to_all":
        return launch + first / (near if chip.switched else 4) + after / hosts
    return launch + {"all_gather": 1, "reduce_scatter": 1, "all_reduce": 2}[kind] * (first + after)


def partitioned(graph: Graph, plan: passes.Plan) -> Graph:
    """The program of the plan before collectives are moved, joined, left to be made once, or left out because a later
    one undoes them: of that the search knows nothing, so a price of it is an upper bound there."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("ignore", passes.PlanWarning)
        patched.setattr(importlib.import_module("passes.partition"), "without_detours", lambda graph, _: graph)
        return pipeline.run_one("partition", Stage(graph, plan.mesh, plan.hardware, plan)).graph


def counted(graph: Graph, plan: passes.Plan, chip: Chip) -> float:
    """Seconds of a step, of the text of its plan."""
    mesh, placed = plan.mesh.as_dict(), partitioned(graph, plan)
    compute = _operations(graph, placed, {value.id: value for value in placed.values()}, mesh, chip)
    exposed, hidden = _sent(placed, 1, mesh, chip)
    return compute + exposed + hidden - min(0.8 * hidden, compute)


def _sent(graph: Graph, times: int, mesh: dict[str, int], chip: Chip) -> Any:
    total = np.zeros(2)
    for node in graph.nodes:
        if op_of(node).communicates:
            awaited = str(node.attrs["moving"]) == "activation"
            seconds = collective_seconds(node.kind, list(node.words("mesh")), node.count("bytes"), mesh, chip, awaited)
            total[0 if awaited else 1] += seconds * times
        for body in entered(node):
            total += _sent(body, times * node.count("trips", 1), mesh, chip)
    return total


def _shards(dims: Any, mesh: dict[str, int]) -> int:
    return prod(mesh[axis] for axis in {axis for dim in dims for axis in dim.mesh})


def _operations(graph: Graph, placed: Graph, local: dict[int, Any], mesh: dict[str, int], chip: Chip) -> float:
    """The products and what moves through memory, of the local arrays of the text."""
    total = 0.0
    twins = _by_result(placed)
    for node, moved in zip(graph.nodes, traffic(graph).moved, strict=True):
        if entered(node):
            twin = twins[node.outputs[0].id]
            for body, there in zip(entered(node), entered(twin), strict=True):
                total += node.count("trips", 1) * _operations(body, there, local, mesh, chip)
            continue
        sent = sum(value.type.bytes / _shards(local[value.id].type.dims, mesh) for value in moved)
        flops = op_of(node).flops(node)
        if flops:
            twin = twins[node.outputs[0].id]
            flops /= _shards([dim for value in (*twin.value_inputs, *twin.outputs) for dim in value.type.dims], mesh)
        width = max((item_size(value.type.dtype) for value in node.value_inputs[:2]), default=2)
        kernel = (
            0.0 if chip.switched or not {value.id for value in moved}.intersection(map(_id, node.outputs)) else KERNEL
        )
        total += max(flops / chip.rate(width), sent / chip.memory_bandwidth) + kernel
    return total


def _id(value: ir.Value) -> int:
    return value.id


def _by_result(placed: Graph) -> dict[int, Node]:
    """Nodes by the number of what they make, before it is resharded too."""
    found: dict[int, Node] = {}
    for node in placed.nodes:
        for value in node.outputs:
            found[value.id] = node
        if op_of(node).communicates or node.kind == "reshard":
            source = node.value_inputs[0].id
            if source in found:
                found[node.outputs[0].id] = found[source]
    return found


def drawn(problem: Problem, rng: random.Random) -> Candidate:
    """A plan of the space, the names in another order where some name is."""
    space, names = problem.space, list(problem.space.order)
    masks = {name: int(rng.choice(list(options))) for name, options in space.options.items()}
    order_where = {rng.choice(names): tuple(rng.sample(names, min(3, len(names))))} if names else {}
    return Candidate(0.0, 0, rng.choice(space.storage_choices), masks, order_where)


def check(graph: Graph, mesh: dict[str, int], chip: Chip, rng: random.Random) -> None:
    """Plans drawn from all of the space are priced as they are counted."""
    levels = random.Random(str(mesh))
    for _ in range(PLANS):
        stored = levels.choice(STORED)
        problem = Problem.of(graph, DeviceMesh.of(mesh), chip, once=False, stored=stored)
        candidate = drawn(problem, rng)
        rules = problem.rules(candidate)
        cost, _ = problem.price(rules)
        compute, storage = problem.named(candidate)
        choices = {"regather": False, "stored": stored, "order_where": candidate.order_where}
        plan = passes.Plan.by_hand(mesh, compute, storage, chip, **choices)
        with suppress_type_checks():
            found = counted(graph, plan, chip)
        priced = step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap)
        assert float(priced) == pytest.approx(found, rel=1e-9), (compute, storage, candidate.order_where)


@pytest.mark.parametrize("hardware", ["v5e", "v5p", "h100"])
@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_gpt(mesh, hardware):
    check(pipeline.prepare(ir.trace(*raw_gpt())), mesh, CHIPS[hardware], random.Random(0))


@pytest.mark.parametrize(
    "compute",
    [
        {"position": ["replica", "model"], "key_position": ["model"]},
        {"position": ["data", "model"], "key_position": ["replica", "data"]},
        {"position": ["model"], "key_position": ["replica", "model"]},
    ],
    ids=["fewer", "others", "more"],
)
def test_a_name_whose_mesh_axes_come_in_another_order(compute):
    """`raw_gpt` calls the positions of keys another name: where the rules of the two differ, shards change places."""
    graph, mesh = pipeline.prepare(ir.trace(*raw_gpt())), {"replica": 2, "data": 2, "model": 2}
    plan = passes.Plan.by_hand(mesh, compute, {}, "v5e", regather=False)
    problem = Problem.of(graph, plan.mesh, plan.chip, once=False, stored=plan.stored)
    cost, _ = problem.price(plan.rules)
    priced = step_seconds(cost.compute, cost.activations, cost.hidden, plan.chip.overlap)
    assert float(priced) == pytest.approx(counted(graph, plan, plan.chip), rel=1e-9)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed > 15)) for seed in range(150)])
def test_random_programs(seed, monkeypatch):
    rng = random.Random(seed)
    graph = prepared_program(seed, monkeypatch)
    check(graph, rng.choice(MESHES), CHIPS[rng.choice(["v5e", "v5p", "h100"])], rng)
