"""What the backward pass computes again: the pass, the search over it, the plan that says it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import ir
import passes
from passes.alternatives import explanation
from passes.arithmetic import arithmetic
from passes.hardware.chip import chip_of
from passes.hardware.memory import ChipMemory
from passes.pipeline import prepare
from passes.planner.problem import Problem
from passes.planner.solve import solve
from passes.planner.variants import policies
from passes.rematerialize import rematerialized, saveable
from passes.report.explained import explained
from passes.sharding.mesh import DeviceMesh
from passes.summary import memory, times

LAYERS, BATCH, EMBED, MLP, MICRO = 4, 64, 32, 128, 4
NAMES = {"w.up": "layers embed mlp", "w.down": "layers mlp embed", "x": "batch embed"}
MESH = {"data": 4, "model": 2}


def block(h: jax.Array, layer: Any) -> tuple[jax.Array, None]:
    up = checkpoint_name(h @ layer["up"], "wide")
    return h + jnp.tanh(jax.nn.gelu(up)) @ layer["down"], None


def loss(w: Any, x: jax.Array, body: Any = block) -> jax.Array:
    h, _ = lax.scan(body, x, w)
    return jnp.mean(h * h)


def step(w: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    value, gradient = jax.value_and_grad(loss)(w, x)
    return jax.tree.map(lambda a, b: a - 0.1 * b, w, gradient), value


def checkpointed(w: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    value, gradient = jax.value_and_grad(loss)(w, x, jax.checkpoint(block, prevent_cse=False))
    return jax.tree.map(lambda a, b: a - 0.1 * b, w, gradient), value


def accumulated(w: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """The user's own loop over micro-batches."""

    def add(carry: Any, part: jax.Array) -> tuple[Any, None]:
        total, sums = carry
        value, gradient = jax.value_and_grad(loss)(w, part)
        return (total + value / MICRO, jax.tree.map(lambda a, b: a + b / MICRO, sums, gradient)), None

    parts = x.reshape(BATCH // MICRO, MICRO, EMBED).swapaxes(0, 1)
    (value, gradient), _ = lax.scan(add, (jnp.float32(0), jax.tree.map(jnp.zeros_like, w)), parts)
    return jax.tree.map(lambda a, b: a - 0.1 * b, w, gradient), value


def arguments() -> tuple[Any, jax.Array]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    return {"up": normal(LAYERS, EMBED, MLP) / 8, "down": normal(LAYERS, MLP, EMBED) / 8}, normal(BATCH, EMBED)


def traced(function: Any = step) -> ir.Graph:
    return ir.trace(function, *arguments(), names=NAMES)


GRAPH = prepare(traced())


def chip(capacity: int, name: str = "v5p") -> Any:
    return replace(chip_of(name), capacity=capacity, memory=ChipMemory())


def stacked(graph: ir.Graph) -> list[str]:
    """What loops of the forward pass hand over."""
    loops = [node for node in graph.walk() if node.kind == "loop" and node.phase == "forward"]
    return [str(value.type) for loop in loops for value in loop.outputs[loop.count("carries") :]]


# The pass.


def test_full_hands_over_what_is_carried_and_names_besides_what_products_make_of_them() -> None:
    carried, wide = "f32[layers=4, batch=64, embed=32]", "f32[layers=4, batch=64, mlp=128]"
    assert saveable(GRAPH) == ("batch", "mlp", "wide")
    assert stacked(GRAPH).count(wide) > 3
    assert stacked(rematerialized(GRAPH, ("full",))) == [carried]
    for name in ("mlp", "wide", "batch"):
        assert stacked(rematerialized(GRAPH, (name,))) == [carried, wide]
    assert rematerialized(GRAPH, ("none",)) is GRAPH


@pytest.mark.parametrize("remat", [("full",), ("mlp",)], ids=str)
@pytest.mark.parametrize("function", [step, accumulated])
def test_the_bits_stay_and_once_is_enough(function: Any, remat: tuple[str, ...]) -> None:
    graph = prepare(traced(function))
    again = ir.verify(rematerialized(graph, remat))
    assert again != graph and len(stacked(again)) < len(stacked(graph))
    assert ir.parse(str(again)) == again
    assert rematerialized(again, remat) is again
    plans = [passes.Plan.by_hand("1", {}, remat=each) for each in ((), remat)]
    made = [passes.lower(traced(function), plan)(*arguments()) for plan in plans]
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, made), strict=True))


def test_it_is_priced_as_jax_checkpoint_is() -> None:
    mesh, plan = DeviceMesh.of("8"), passes.Plan.by_hand("8", {"batch": "data"}, {"embed": "data"}, "v5p")
    theirs = prepare(traced(checkpointed))
    prices = []
    for graph in (rematerialized(GRAPH, ("full",)), theirs):
        cost, peak = Problem.of(graph, mesh, plan.chip).price(plan.rules)
        found = arithmetic(graph)
        prices.append((float(cost.compute), float(cost.hidden), peak, found.model, found.again))
    assert prices[0] == pytest.approx(prices[1], rel=1e-12)
    assert prices[0][-1] > 0
    assert rematerialized(theirs, ("full",)) is theirs


# On devices.


@pytest.mark.hurried
@pytest.mark.parametrize("function", [step, accumulated])
def test_eight_devices_compute_the_same_in_less_memory(function: Any) -> None:
    compute = {"batch": "data", "mlp": "model"}
    values, peaks, predicted = [], [], []
    for remat in ((), ("full",)):
        plan = passes.Plan.by_hand(MESH, compute, {"embed": "data"}, "v5p", remat=remat)
        result = passes.run(traced(function), MESH, plan=plan)
        assert result.proof is not None
        assert not result.proof.assumptions
        lowered = passes.lower_placed(result.placed, result.plan, jax.devices())
        compiled = lowered.lower(*arguments()).compile()  # type: ignore[attr-defined]
        peaks.append(compiled.memory_analysis().temp_size_in_bytes)
        predicted.append(memory(result.graph, result.plan, result.placed)["peak"])
        values.append(jax.tree.leaves(lowered(*arguments())))
    wanted = jax.tree.leaves(function(*arguments()))
    for made in values:
        for a, b in zip(made, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    assert peaks[1] < 0.8 * peaks[0]
    assert predicted[1] < predicted[0]


# The search.


@pytest.mark.parametrize("capacity", [10**9, 200_000, 100_000, 60_000, 10_000])
def test_the_best_of_all_is_found(capacity: int) -> None:
    """Beside each policy, searched and priced by itself."""
    hardware, mesh = chip(capacity), DeviceMesh.of(MESH)
    each: dict[tuple[str, ...], float] = {}
    for remat in policies(GRAPH):
        graph = rematerialized(GRAPH, remat)
        try:
            found = solve(graph, mesh, hardware)
        except passes.PlanError:
            continue
        each[remat] = times(graph, passes.pipeline.place(graph, found), found).step
    if not each:
        with pytest.raises(passes.PlanError, match="no plan fits"):
            passes.plan(traced(), MESH, hardware, pin={"remat": "any"})
        return
    best = passes.plan(traced(), MESH, hardware, pin={"remat": "any"})
    assert each[best.remat] == pytest.approx(min(each.values()))
    assert best.search is not None
    assert best.search.optimal
    assert best.report()["time"]["step"] == pytest.approx(each[best.remat])


def test_where_nothing_fits_something_is_computed_again() -> None:
    assert passes.plan(traced(), "data=8", chip(10**9)).remat == ()
    with pytest.raises(
        passes.PlanError, match="with remat=none pinned, no plan fits: the leanest on mesh data=8 needs"
    ):
        passes.plan(traced(), "data=8", chip(90_000), pin={"remat": "none"})
    found = passes.run(traced(), "data=8", chip(90_000))
    assert found.plan.remat in (("full",), ("mlp",))
    assert found.facts()["memory"]["peak"] <= 90_000
    assert found.plan.reasons["remat"].startswith("nothing fits with none; with none a device needs ")


def test_a_reason_and_alternatives_are_told() -> None:
    result = passes.run(traced(), MESH, "v5p", pin={"remat": "any"})
    assert result.canonical is not None
    told = explained(asdict(explanation(result.canonical, result.plan, "remat")))
    assert told[0] == "What the backward pass computes again: all but mlp."
    assert told[1].startswith("Why: with none a step takes ")
    assert [line.partition(":")[0] for line in told[2:]] == ["Remat none", "Remat full"]
    assert "remat   all but mlp" in str(result.plan)


# As a document.


def test_a_plan_keeps_it(tmp_path: Path) -> None:
    graph = traced()
    plan = passes.plan(graph, MESH, "v5p", pin={"remat": "any"})
    plan.save(tmp_path / "plan.yaml")
    assert "\nremat: [mlp]  # with none a step takes " in (tmp_path / "plan.yaml").read_text()
    again = passes.run(graph, MESH, plan=passes.Plan.load(tmp_path / "plan.yaml")).plan
    again.save(tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == (tmp_path / "plan.yaml").read_text()
    assert again.report(graph)["memory"] == plan.report()["memory"]
    assert passes.plan(graph, MESH, "v5p").as_document().remat == []


@pytest.mark.parametrize(
    ("remat", "message"),
    [
        (
            "full, mlp",
            "remat is `full` and mlp: `full` stands alone; leave it out to keep mlp, or leave out the others",
        ),
        (
            "mpl",
            "remat of 'mpl': it is neither none nor full, and no product in a loop over layers has that name; did you "
            "mean 'mlp'?",
        ),
        (
            "layers",
            "remat of 'layers': it is neither none nor full, and no product in a loop over layers has that name; they "
            "have batch, mlp, wide",
        ),
    ],
)
def test_what_cannot_be_is_refused(remat: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(passes.PlanError) as caught:
        passes.plan(traced(), MESH, pin={"remat": remat})
    assert str(caught.value) == message
    (tmp_path / "plan.yaml").write_text(f"mesh: data=4,model=2\ncompute: {{}}\nremat: [{remat}]\n")
    with pytest.raises(passes.PlanError) as caught:
        passes.run(traced(), MESH, plan=passes.Plan.load(tmp_path / "plan.yaml"))
    assert str(caught.value).endswith(message)


def test_a_step_without_a_loop_has_nothing_to_compute_again() -> None:
    def flat(w: jax.Array, x: jax.Array) -> jax.Array:
        return w - jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w)))(w)

    graph = ir.trace(flat, jnp.ones((8, 4)), jnp.ones((16, 8)), names={"w": "embed mlp", "x": "batch embed"})
    assert passes.plan(graph, "data=8", pin={"remat": "any"}).remat == ("none",)
    with pytest.raises(passes.PlanError) as caught:
        passes.plan(graph, "data=8", pin={"remat": "full"})
    assert str(caught.value) == (
        "remat of 'full': the step has no loop over layers whose backward pass reads what its forward pass has made, "
        "so nothing of it can be computed again; write none, or leave it out"
    )
    with pytest.raises(passes.PlanError) as caught:
        passes.plan(graph, "data=8", pin={"microbatches": "4"})
    assert str(caught.value) == (
        "microbatches: the step is planned as it was traced, and how often it goes over parts of the batch is in it; "
        "set that in the step, or plan a model of a configuration: levanter compile --model NAME --pin microbatches=4"
    )
    with pytest.raises(passes.PlanError) as caught:
        passes.plan(graph, "data=8", pin={"moments": "bfloat16"})
    assert str(caught.value) == (
        "moments: the step is planned as it was traced, and what its optimizer keeps is in it; set that in the step, "
        "or plan a model of a configuration: levanter compile --model NAME --pin moments=bfloat16"
    )
