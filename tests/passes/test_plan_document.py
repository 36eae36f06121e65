"""A plan as a file: it says the same as the plan, is refused with the place and the fix, and is followed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from accumulation import flat_loss, stepping, traced
from hypothesis import given, settings
from hypothesis import strategies as st
from step_models import mlp_step, prepared
from typeguard import suppress_type_checks

import ir
import passes
from passes import Plan, PlanError
from passes.planner.document import CHOICES, PlanDocument, read_document, text_of
from passes.planner.errors import factored, padded
from passes.report.heading import heading

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8)


@st.composite
def plans(draw) -> Plan:
    """Any plan by hand, over names that a person may give, such as `yes`, `1`, `mlp'` or `gates[0:14]`."""
    axes = draw(
        st.lists(st.sampled_from(["data", "model", "replica", "on", "x-1"]), min_size=1, max_size=3, unique=True)
    )
    mesh = {axis: draw(st.integers(1, 64)) for axis in axes}
    names = draw(st.lists(NAMES | st.sampled_from(["yes", "null", "1", "embed", "a: b"]), max_size=5, unique=True))
    sets = st.lists(st.sampled_from(axes), max_size=len(axes), unique=True)
    compute = {name: tuple(each) for name in names if (each := draw(sets))}
    storage = {name: tuple(each) for name in names if (each := draw(sets))}
    made = Plan.by_hand(mesh, compute, storage, draw(st.sampled_from(["v5e", "h100"])))
    choices = {
        key: draw(st.sampled_from(list(CHOICES.values()))) for key in ("regather", "defer_sums", "hoist_gathers")
    }
    return Plan(made.mesh, made.order, made.compute, made.storage, made.hardware, **choices)


@settings(max_examples=60, deadline=None)
@given(plan=plans(), model=st.text(max_size=20))
def test_a_plan_comes_back_from_its_file(plan: Plan, model: str) -> None:
    reasons = {name: "computed: for a reason # or two" for name in plan.order}
    text = text_of(plan.as_document(model), ["A heading.", "", "And more: # of it"], reasons)
    document = read_document(text, "plan.yaml")
    back = Plan.of_document(document)
    assert (back.mesh, back.hardware, back.regather) == (plan.mesh, plan.hardware, plan.regather)
    assert (back.defer_sums, back.hoist_gathers, document.model) == (plan.defer_sums, plan.hoist_gathers, model or None)
    for mine, its in ((plan.rules.compute, back.rules.compute), (plan.rules.extra, back.rules.extra)):
        assert {name: mask for name, mask in mine.items() if mask} == {name: mask for name, mask in its.items() if mask}
    assert list(back.compute) == [name for name in plan.order if name in plan.compute]
    assert text_of(back.as_document(), ["A heading.", "", "And more: # of it"], reasons) == text


def test_equal_plans_of_one_step_are_the_same_bytes(tmp_path: Path) -> None:
    graph = prepared("named")
    with suppress_type_checks():
        chosen = passes.plan(graph, "4x2", "h100", pin={"embed": "data", "mlp": "model"})
        chosen.save(tmp_path / "first.yaml", "tiny")
        again = passes.run(graph, "4x2", "h100", plan=Plan.load(tmp_path / "first.yaml")).plan
        again.save(tmp_path / "second.yaml")
    first, second = ((tmp_path / name).read_text() for name in ("first.yaml", "second.yaml"))
    # The pins are the search's, and not the plan's.
    assert second == first.replace("pinned to model; ", "").replace("pinned to data; ", "")
    with suppress_type_checks():
        mine, its = again.report(), chosen.report()
    assert all(mine[key] == its[key] for key in ("time", "memory", "collectives", "parameters", "plan"))


GOLDEN = """\
# How the training step of tiny is sharded over 8 × v5e.
# Edit it; `levanter compile --plan FILE` prices it, `levanter train --plan FILE` follows it.
#
# Predicted: a step of 12.0 µs (compute 9.00 µs, exposed communication 3.00 µs; 1.00 µs hidden).
# 1,000 tokens a second, MFU 12.5%.
# Peak memory 1.00 GiB a device, 12% of 8.00 GiB.
# 3 collectives.
model: tiny
mesh: data=4,model=2
hardware: v5e
sizes: {batch: 8, mlp: 32, embed: 4}

# What each name is sharded over in use. Where two names of one array want the same mesh axis, the
# upper one has it.
compute:
  batch: [data]  # computed on data: without it a step takes 2.0 times as long
  mlp: [model]

# What is added at rest: in parameters, gradients and optimizer state (FSDP).
storage:
  embed: [data]  # stored on data: costs nothing and saves memory

# Which of these it is added in: all three (ZeRO-3), gradients and optimizer (ZeRO-2), or optimizer
# (ZeRO-1).
stored: [parameters, gradients, optimizer]

# Whether parameters are gathered again in the backward pass (true) or kept from the forward pass
# (false); auto keeps them where there is room.
regather: auto

# Whether gradients that a loop adds up are reduced once, after it; auto does as many as there is
# room for.
defer_sums: false

# Whether what each trip of a loop would gather is gathered once, before it; auto does as many as
# there is room for.
hoist_gathers: true
"""


def test_the_whole_file() -> None:
    document = PlanDocument(
        "data=4,model=2",
        {"batch": ["data"], "mlp": ["model"]},
        {"embed": ["data"]},
        model="tiny",
        sizes={"batch": 8, "mlp": 32, "embed": 4},
        defer_sums="false",
        hoist_gathers="true",
    )
    report = {
        **{"model": "tiny", "devices": 8, "hardware": "v5e", "collectives": [{"count": 3}]},
        "time": {"step": 12e-6, "compute": 9e-6, "exposed": 3e-6, "communication": 4e-6},
        "memory": {"peak": 2**30, "capacity": 2**33},
        "rate": {"tokens_per_second": 1000.0, "examples_per_second": None, "mfu": 0.125},
    }
    reasons = {
        "batch": "computed on data: without it a step takes 2.0 times as long",
        "embed": "stored on data: costs nothing and saves memory",
    }
    text = text_of(document, heading(report), reasons)
    assert text == GOLDEN
    assert read_document(text, "plan.yaml") == document


VALID = "mesh: data=4,model=2\ncompute:\n  batch: [data]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml: it holds no plan; `levanter compile --save-plan p.yaml` writes one"),
        ("- a\n", "p.yaml: it holds no plan; `levanter compile --save-plan p.yaml` writes one"),
        ("mesh: [\n", "p.yaml:2: not valid YAML: expected the node content, but found '<stream end>'"),
        (
            "compute: {batch: [data]}\n",
            "p.yaml: the plan has no `mesh`; `levanter compile --save-plan p.yaml` writes a whole one",
        ),
        ("mesh: 4\n", "p.yaml: the plan has no `compute`; `levanter compile --save-plan p.yaml` writes a whole one"),
        (VALID + "stroage: {}\n", "p.yaml:4: unknown key `stroage` of a plan; did you mean `storage`?"),
        (
            VALID + "nothing: 1\n",
            "p.yaml:4: unknown key `nothing` of a plan; known are model, mesh, hardware, sizes, compute, storage, "
            "stored, order, remat, attention, microbatches, moments, gradients, network, padding, regather, "
            "defer_sums, hoist_gathers",
        ),
        (VALID + "mesh: 8\n", "p.yaml:4: `mesh` of the plan is given twice (first at line 1); remove one of them"),
        (
            VALID + "  batch: [model]\n",
            "p.yaml:4: `batch` of `compute` is given twice (first at line 3); remove one of them",
        ),
        ("mesh: 4y2\ncompute:\n", f"p.yaml: bad mesh `4y2`: {passes.errors.MESH_FORMS}"),
        (
            VALID.replace("[data]", "[dta]"),
            "p.yaml: compute of 'batch': mesh axis 'dta': this mesh has data, model; did you mean 'data'?",
        ),
        (
            VALID.replace("[data]", "data, data"),
            "p.yaml: compute of 'batch': ['data', 'data'] names a mesh axis twice; remove one of them",
        ),
        (
            VALID.replace("[data]", "{data: 1}"),
            "p.yaml:3: `compute.batch` is a section; expected mesh axes, such as [data, model]",
        ),
        (VALID + "storage: data\n", "p.yaml:4: `storage` is data; expected mesh axes by name, such as {embed: [data]}"),
        (
            VALID + "model: [a]\n",
            "p.yaml:4: `model` is a section or a list; expected the name of a model, such as gpt2_nano",
        ),
        (VALID + "sizes: {mlp: many}\n", "p.yaml:4: `sizes.mlp` is many; expected a whole number of at least 1"),
        (VALID + "regather: maybe\n", "p.yaml:4: `regather` is `maybe`; write one of auto, true, false"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_plan(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(text)
    with pytest.raises(PlanError) as caught:
        Plan.load("p.yaml")
    assert str(caught.value) == message


def test_a_file_need_not_say_what_it_was_made_for(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(VALID)
    assert Plan.load(tmp_path / "p.yaml").as_document().model is None
    Plan.by_hand("4x2", {"batch": "data"}).save(tmp_path / "q.yaml")
    assert "model:" not in (tmp_path / "q.yaml").read_text()
    assert read_document(VALID + "model:\n", "p.yaml").model is None


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_bytes(b"\xff\xfe")
    for path, reason in (("no.yaml", "no such file or directory"), ("p.yaml", "it is not UTF-8 text")):
        with pytest.raises(PlanError) as caught:
            Plan.load(path)
        assert str(caught.value) == f"cannot read the plan {path}: {reason}"
    with pytest.raises(PlanError) as caught:
        Plan.by_hand("4", {}).save("no/p.yaml")
    assert str(caught.value) == "cannot write the plan no/p.yaml: no such file or directory"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            "compute: {mpl: [model]}",
            "p.yaml: compute of 'mpl': the step has no axis of that name; did you mean 'mlp'? (p.yaml was made "
            "for llama)",
        ),
        (
            "compute: {vocab: [model]}",
            "p.yaml: compute of 'vocab': the step has no axis of that name; it has mlp, embed, batch (p.yaml was "
            "made for llama)",
        ),
        (
            "compute: {}\nstorage: {embed: [data]}",
            "p.yaml: storage of 'embed': 50257 = 29·1733 does not divide by 4 (data=4); set its size to 50256 or "
            "50260, or to 50304, which fills tiles of 128, or shard it over as many devices as divide it: 1, 29, 1733",
        ),
        (
            "compute: {batch: [data, model]}",
            "p.yaml: compute of 'batch': 12 = 2^2·3 does not divide by 8 (data=4,model=2); set its size to 8 or 16, "
            "or shard it over as many devices as divide it: 1, 2, 3, 4, 6, 12; or pad it: `padding: {batch: 16}`",
        ),
    ],
)  # fmt: skip
def test_a_plan_of_another_step(rules: str, message: str) -> None:
    graph = ir.trace(*mlp_step(12, 50257, 32))
    plan = Plan.of_document(read_document(f"model: llama\nmesh: data=4,model=2\n{rules}\n", "p.yaml"))
    with pytest.raises(PlanError) as caught:
        passes.run(graph, "4x2", plan=plan)
    assert str(caught.value) == message


def test_a_scanned_axis_is_refused() -> None:
    text = "mesh: data=2\ncompute: {}\nstorage: {layers: [data]}\n"
    with pytest.raises(PlanError) as caught:
        passes.run(prepared("named"), "2", plan=Plan.of_document(read_document(text, "p.yaml")))
    assert str(caught.value) == (
        "p.yaml: storage of 'layers': a loop scans over this axis, so every device needs each slice; remove the line"
    )


@given(size=st.integers(1, 200_000), group=st.integers(1, 64))
def test_sizes_in_words(size: int, group: int) -> None:
    number, _, product = factored(size).partition(" = ")
    powers = [each.partition("^") for each in product.split("·") if each]
    assert int(number) == size and math.prod(int(base) ** int(power or 1) for base, _, power in powers) in (size, 1)
    assert padded(size, group) % group == 0 and size <= padded(size, group) < size + math.lcm(group, 128)


def test_a_plan_overrides_what_loops_do_once() -> None:
    """Of micro-batches a gradient is reduced in each trip, or once after the loop; a parameter is gathered likewise."""
    graph = traced(stepping(flat_loss), flat_loss)
    collectives: dict[tuple[str, str], int] = {}
    for defer in CHOICES:
        for hoist in CHOICES:
            text = (
                "mesh: data=4,model=2\ncompute: {batch: [data]}\nstorage: {embed: [data]}\n"
                f"defer_sums: {defer}\nhoist_gathers: {hoist}\n"
            )
            result = passes.run(graph, "4x2", plan=Plan.of_document(read_document(text, "p.yaml")))
            facts = result.facts()
            assert result.proof is not None and not result.proof.assumptions
            collectives[defer, hoist] = sum(each["count"] for each in facts["collectives"])
    assert collectives["false", "false"] > collectives["true", "false"]
    assert collectives["false", "false"] > collectives["false", "true"]
    assert collectives["auto", "auto"] == collectives["true", "true"]


def test_a_document_knows_the_dtypes_of_moments() -> None:
    with pytest.raises(passes.PlanError) as caught:
        PlanDocument(mesh="2", moments="half")
    assert str(caught.value) == "plan.yaml: `moments` is half; expected float32 or bfloat16"


def test_a_document_has_at_least_one_micro_batch() -> None:
    with pytest.raises(passes.PlanError) as caught:
        PlanDocument(mesh="2", microbatches=0)
    assert str(caught.value) == "plan.yaml: `microbatches` is 0; expected a whole number of at least 1"


def test_a_part_that_is_replicated_is_said(tmp_path: Path) -> None:
    """Left out, it would be sharded as the axis that it was cut from."""
    plan = Plan.by_hand("data=2,model=2", {"batch": "model", "batch[0:2]": ()})
    plan.save(tmp_path / "plan.yaml")
    assert "  batch[0:2]: []\n" in (tmp_path / "plan.yaml").read_text()
    again = Plan.load(tmp_path / "plan.yaml")
    sizes = {"batch[0:2]": 2, "embed": 4}
    for each in (plan, again):
        assert each.order == ("batch", "batch[0:2]") and int(each.rules.layout(sizes, "compute")["batch[0:2]"]) == 0
