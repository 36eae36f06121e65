"""`print(plan)` and `plan.report()`: what `levanter compile` prints, of any step."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError

import pytest
from step_models import hand_plan, prepared, traced

import passes
from passes import Plan, PlanError

SECTIONS = ("Network", "Axes", "Parameters", "Collectives", "Memory per device", "Step time, predicted", "Search")


def test_a_plan_prints_every_section() -> None:
    plan = passes.plan(traced("mlp"), {"data": 4, "model": 2}, "h100")
    text = str(plan)
    assert text.startswith(
        "step on 8 × h100  mesh data 4 × model 2\n\nNetwork  1 node of 8 h100: data 4, model 2\n\nAxes"
    )
    starts = [line.partition("  ")[0] for line in text.splitlines() if line and not line.startswith((" ", "─"))]
    values = plan.report()["proof"]["values"]
    assert starts == ["step on 8 × h100", *SECTIONS, f"proved: {values} values, 0 assumptions"]
    assert text == str(plan.report()) == repr(plan.report())


def test_a_report_is_the_json_of_compile() -> None:
    plan = passes.plan(traced("mlp"), {"data": 4, "model": 2}, "h100")
    report = plan.report()
    assert json.loads(json.dumps(report)) == report
    assert list(report) == [
        *(
            "model",
            "mesh",
            "devices",
            "hardware",
            "plan",
            "remat",
            "padding",
            "attention",
            "microbatches",
            "moments",
            "gradients",
            "network",
            "axes",
            "order_reason",
            "parameters",
            "collectives",
            "memory",
            "filling",
            "shard_next",
            "regather",
            "time",
        ),
        *("rate", "search", "runner_up", "proof", "notes"),
    ]
    assert {row["name"]: row["size"] for row in report["axes"]} == prepared("mlp").axis_sizes()
    assert [row["path"] for row in report["parameters"]] == ["down", "up"]


def test_a_plan_by_hand_reports_on_a_graph() -> None:
    plan = hand_plan("mixed")
    with pytest.raises(PlanError) as caught:
        plan.report()
    assert str(caught.value) == ("a plan by hand knows no step to report on: give the traced graph, plan.report(graph)")
    assert str(plan).splitlines()[0] == "plan by hand on 8 × v5e  mesh data 4 × model 2"
    report = plan.report(prepared("mlp"))
    assert {row["reason"] for row in report["axes"]} == {"given"}
    kinds = {row["kind"] for row in report["collectives"]}
    assert {"all_gather", "reduce_scatter"} <= kinds
    ran = passes.run(traced("mlp"), plan.mesh, plan=plan)
    assert dict(ran.plan.report()) == dict(report) and ran.plan == plan


def test_a_traced_graph_is_reported_as_it_would_be_planned() -> None:
    plan = hand_plan("mixed")
    assert dict(plan.report(traced("mlp"))) == dict(plan.report(prepared("mlp")))


def test_a_name_of_a_plan_by_hand_that_the_step_lacks_has_no_row() -> None:
    plan = Plan.by_hand({"data": 2}, {"batch": ["data"], "experts": ["data"]})
    assert "experts" not in {row["name"] for row in plan.report(prepared("mlp"))["axes"]}


def test_a_plan_that_was_given_says_of_stored_names_alone_how_they_are_stored() -> None:
    plan = Plan.by_hand({"data": 4, "model": 2}, {"batch": ["data"], "mlp": ["model"]}, {"embed": ["data"]})
    report = plan.report(prepared("mlp"))
    assert report["plan"]["storage"] == {"mlp": ["model"], "embed": ["data"]}
    assert {row["name"]: row["storage"] for row in report["axes"]} == {
        "batch": [],
        "mlp": ["model"],
        "embed": ["data"],
    }


def test_a_plan_stays_data() -> None:
    plan = passes.plan(traced("mlp"), {"data": 4, "model": 2}, "h100")
    for other in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert other == plan and str(other) == str(plan)
    with pytest.raises(FrozenInstanceError):
        plan.hardware = "v5e"  # type: ignore[misc]
    assert "Subject" not in repr(plan)
