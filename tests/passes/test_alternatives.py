"""Why a name is where it is: each alternative is priced as the plan that it is, and told in a sentence."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from step_models import mlp_step, prepared

import ir
import passes
from passes import Plan, PlanError, pipeline
from passes.alternatives import explanation
from passes.report.explained import explained

MESH = {"data": 4, "model": 2}
BY_HAND = Plan.by_hand(MESH, {"batch": "data", "mlp": "model"}, {"embed": "data"})


def test_an_alternative_costs_what_its_plan_is_reported_to_cost() -> None:
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 256)))
    found = explanation(graph, BY_HAND, "embed")
    assert (found.size, found.compute, found.storage) == (64, (), ("data",))
    assert found.reason == "stored on data: without it a step takes 38% less"
    own = BY_HAND.report(graph)
    assert (own["time"]["step"], own["memory"]) == (found.times["step"], found.memory)
    assert {(each.role, each.axes) for each in found.alternatives} == {
        *(("compute", axes) for axes in (("data",), ("model",), ("data", "model"))),
        *(("storage", axes) for axes in ((), ("model",), ("data", "model"))),
    }
    for each in found.alternatives:
        compute = {"batch": "data", "mlp": "model"} | ({"embed": each.axes} if each.role == "compute" else {})
        stored = each.axes if each.role == "storage" else ("data",)
        plan = Plan.by_hand(MESH, compute, {"embed": stored} if stored else {})
        report = plan.report(graph)
        assert each.times is not None and each.times["step"] == report["time"]["step"], (each.role, each.axes)
        assert each.memory == report["memory"]
        more = sum(row["count"][1] - row["count"][0] for row in each.collectives)
        counts = [sum(row["count"] for row in said["collectives"]) for said in (own, report)]
        assert more == counts[1] - counts[0]


def test_the_sentences() -> None:
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 256)))
    embed = explained(asdict(explanation(graph, BY_HAND, "embed")))
    assert embed == [
        "embed has size 64 and is stored over data.",
        "Why: stored on data: without it a step takes 38% less.",
        "Stored as it is computed: a step takes 23.8 µs (-38%); computing takes 4.50 µs less; it gains 2 all_reduce of "
        "gradients over data (2.18 µs); it loses 2 all_gather of parameters over data (6.00 µs), 2 reduce_scatter of "
        "gradients over data (6.00 µs); peak memory 226 KiB (+27%).",
        "Stored over model: a step takes 23.8 µs (-38%); computing takes 4.50 µs less; it gains 2 all_reduce of "
        "gradients over data (2.18 µs); it loses 2 all_gather of parameters over data (6.00 µs), 2 reduce_scatter of "
        "gradients over data (6.00 µs); peak memory 226 KiB (+27%).",
        "Computed over data: nothing changes, because batch comes first and takes data where embed is.",
        "Stored over data × model: nothing changes, because mlp comes first and takes model where embed is.",
        "Computed over model: a step takes 45.7 µs (+20%); computing takes 3.59 µs more; it gains 1 all_reduce of "
        "activations over data × model (8.00 µs), 2 all_gather of activations over model (2.00 µs), 1 reduce_scatter "
        "of activations over model (2.00 µs); it loses 1 all_reduce of activations over data (6.00 µs), 1 all_reduce "
        "of activations over model (2.00 µs).",
        "Computed over data × model: a step takes 45.7 µs (+20%); computing takes 3.59 µs more; it gains 1 all_reduce "
        "of activations over data × model (8.00 µs), 2 all_gather of activations over model (2.00 µs), 1 "
        "reduce_scatter of activations over model (2.00 µs); it loses 1 all_reduce of activations over data (6.00 "
        "µs), 1 all_reduce of activations over model (2.00 µs).",
    ]


def test_a_size_that_does_not_divide_is_explained() -> None:
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 50257)))
    first, *_, last = explained(asdict(explanation(graph, Plan.by_hand({"data": 4}, {"batch": "data"}), "mlp")))
    assert first == "mlp has size 50257 and is replicated."
    assert last == (
        "Over data: 50257 = 29·1733 does not divide by 4 (data=4); set its size to 50256 or 50260, or to 50304, which "
        "fills "
        "tiles of 128, or shard it over as many devices as divide it: 1, 29, 1733."
    )


def test_names_that_have_no_alternative_and_that_are_not_there() -> None:
    graph = prepared("named")
    plan = passes.Plan.by_hand({"data": 2}, {"batch": "data"})
    assert explained(asdict(explanation(graph, plan, "layers")))[1:] == ["Why: given.", "There is no alternative."]
    with pytest.raises(PlanError) as caught:
        explanation(graph, plan, "embd")
    assert str(caught.value) == (
        "nothing to explain of 'embd': 'train_step' has no axis of that name; did you mean 'embed'?"
    )
