"""State that is stored over the same mesh axes by several names, each array by one that it has."""

from __future__ import annotations

from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typeguard import suppress_type_checks

import ir
import passes
from passes import pipeline
from passes.hardware.chip import CHIPS
from passes.planner.cost import step_seconds
from passes.planner.problem import Problem
from passes.sharding.mesh import DeviceMesh
from passes.sharding.rules import ShardingRules

pytestmark = pytest.mark.hurried

SIZES = {"first": 512, "second": 1024, "third": 768, "fourth": 1024}
PAIRS = [*pairwise(SIZES), ("fourth", "first")]


def step(weights, x):
    """Layers from each width to the next, and back to the first."""

    def loss(weights):
        hidden = x
        for weight in weights:
            hidden = jnp.tanh(hidden @ weight)
        return jnp.mean(hidden)

    return jax.tree.map(lambda weight, grad: weight - 0.1 * grad, weights, jax.grad(loss)(weights))


def graph_of(rows: int, pairs=PAIRS, sizes=SIZES):
    shapes = [jax.ShapeDtypeStruct((sizes[a], sizes[b]), jnp.float32) for a, b in pairs]
    names = {f"weights.{i}": " ".join(pair) for i, pair in enumerate(pairs)} | {"x": f"batch {pairs[0][0]}"}
    x = jax.ShapeDtypeStruct((rows, sizes[pairs[0][0]]), jnp.float32)
    return pipeline.prepare(ir.trace(step, shapes, x, names=names))


def test_each_array_is_stored_over_a_name_that_it_has():
    """Two names are stored, of which no array has both, and every plan is priced. A name whose mesh axes the batch has
    wherever it is computed with is sharded at rest alone: so a second one is stored, and the plan says that."""
    graph, chip, mesh = graph_of(8192), CHIPS["h100"], DeviceMesh.of("data=4")
    with suppress_type_checks():
        plan = passes.plan(graph, mesh, "h100")
        problem = Problem.of(graph, mesh, chip)
        space, prices = problem.space, []
        for stored, masks in product(space.storage_choices, product(*space.options.values())):
            compute = dict(zip(space.options, map(int, masks), strict=True))
            cost, _ = problem.price(ShardingRules(mesh, space.order, compute, stored.extra))
            seconds = float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap))
            only = sum(bool(mask) for mask in masks[1:]) + len(stored.names) < 2
            prices.append((seconds, only))
    assert dict(plan.compute) == {"batch": ("data",)}
    assert {**plan.storage, "batch": ()} == {"first": ("data",), "third": ("data",), "batch": ()}
    assert plan.reasons["third"].startswith("stored on data: without it a step takes ")
    fastest = min(seconds for seconds, _ in prices)
    assert plan.search.optimal and plan.report(graph)["time"]["step"] == pytest.approx(fastest, rel=1e-6)
    assert fastest < 0.99 * min(seconds for seconds, only in prices if only)


def test_values_are_those_of_one_device(tmp_path):
    graph = graph_of(8192)
    rng = np.random.default_rng(0)
    weights = [jnp.array(rng.normal(size=(SIZES[a], SIZES[b])) / 30, jnp.float32) for a, b in PAIRS]
    x = jnp.array(rng.normal(size=(8192, SIZES["first"])), jnp.float32)
    with suppress_type_checks():
        passes.plan(graph, "data=4", "h100").save(tmp_path / "plan.yaml")
        assert "  first: [data]  # stored on data: without it " in (tmp_path / "plan.yaml").read_text()
        plan = passes.Plan.load(tmp_path / "plan.yaml")
        assert set(plan.storage) - {"batch"} == {"first", "third"}
        proof = passes.run(graph, "data=4", plan=plan).proof
        found = passes.lower(graph, plan)(weights, x)
    assert proof is not None
    for mine, other in zip(found, step(weights, x), strict=True):
        np.testing.assert_allclose(np.asarray(mine), np.asarray(other), rtol=1e-5, atol=1e-6)
