"""What changes from one plan to another, and what a step is predicted to make of tokens."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from step_models import hand_plan, prepared, traced

import passes
from passes import Plan
from passes.arithmetic import arithmetic
from passes.report.change_tables import change_tables
from passes.report.changes import changes
from passes.report.style import Printer
from passes.sharding.state import STATE_KINDS


def test_every_number_of_a_change_is_that_of_its_reports() -> None:
    graph = prepared("mlp")
    before, after = hand_plan("dp").report(graph), hand_plan("fsdp").report(graph)
    found = changes(before, after)
    assert (found["question"], found["regather"]) == ({}, [False, False])
    moved = {(row["name"], row["role"]): row["axes"] for row in found["names"]}
    for role in ("compute", "storage"):
        for name in {*before["plan"][role], *after["plan"][role]}:
            pair = [before["plan"][role].get(name, []), after["plan"][role].get(name, [])]
            assert moved.get((name, role), [pair[0], pair[0]]) == pair
    assert found["time"]["step"] == [before["time"]["step"], after["time"]["step"]]
    assert found["memory"]["peak"] == [before["memory"]["peak"], after["memory"]["peak"]]
    counts = [sum(row["count"] for row in report["collectives"]) for report in (before, after)]
    assert sum(row["count"][1] - row["count"][0] for row in found["collectives"]) == counts[1] - counts[0]
    assert changes(before, before) | {"time": 0, "memory": 0, "rate": 0} == {
        **{
            "question": {},
            "names": [],
            "stored": [list(STATE_KINDS)] * 2,
            "order": [{}, {}],
            "remat": [[], []],
            "microbatches": [None, None],
            "moments": ["", ""],
            "gradients": ["", ""],
            "padding": [{}, {}],
            "network": [{}, {}],
            "attention": ["", ""],
            "regather": [False, False],
            "collectives": [],
        },
        **{"time": 0, "memory": 0, "rate": 0},
    }


def test_the_tables_of_a_change() -> None:
    graph = prepared("mlp")
    other = Plan.by_hand({"data": 8}, {"batch": "data"}, {"embed": "data"}, "h100", regather=True)
    first = Plan.by_hand({"data": 4, "model": 2}, {"batch": "data", "mlp": "model"})
    file = io.StringIO()
    found = {"names_of": ["a.yaml", "b.yaml"], **changes(first.report(graph), other.report(graph))}
    change_tables(found, Printer(Console(file=file, width=120)))
    lines = [" ".join(line.split()) for line in file.getvalue().splitlines()]
    assert lines[1:9] == [
        "a.yaml → b.yaml the second beside the first",
        "mesh data=4,model=2 → data=8",
        "hardware v5e → h100",
        "mlp computed replicated, no longer over model",
        "mlp stored replicated, no longer over model",
        "embed stored over data, not replicated",
        "parameters gathered again in the backward pass",
        "",
    ]
    assert any(line.startswith("step ") for line in lines) and any(line.startswith("MFU ") for line in lines)
    gained = sum(max(0, row["count"][1] - row["count"][0]) for row in found["collectives"])
    lost = sum(max(0, row["count"][0] - row["count"][1]) for row in found["collectives"])
    assert f"Collectives of one step: {gained:,} gained, {lost:,} lost" in lines


@pytest.mark.parametrize("name", ["named", "named_checkpoint"])
def test_the_rate_of_a_step(name: str) -> None:
    """The operations of the model are those of the step without what is computed again."""
    plan = passes.Plan.by_hand({"data": 4, "model": 2}, {"batch": "data"}, hardware="v5p")
    report = passes.run(traced(name), "4x2", "v5p", plan=plan).facts()
    rate, step = report["rate"], report["time"]["step"]
    assert (rate["examples"], rate["tokens"]) == (8, 8 * 16)
    assert rate["tokens_per_second"] == pytest.approx(8 * 16 / step)
    assert rate["flops"] == arithmetic(prepared(name)).model
    assert rate["mfu"] == pytest.approx(rate["flops"] / (step * 8 * plan.chip.flops))


def test_a_step_without_tokens_has_examples() -> None:
    report = hand_plan("dp").report(prepared("mlp"))
    assert report["rate"]["tokens"] is None and report["rate"]["examples"] == prepared("mlp").axis_sizes()["batch"]
    text = str(report)
    assert "examples per second" in text and "tokens per second" not in text and "MFU" in text
