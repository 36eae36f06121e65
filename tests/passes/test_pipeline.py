"""The list of passes: it documents itself, each pass does what its golden files show, and each runs once.

tests/golden/passes/STEM/ holds `before.ir`, whose first line is the command that makes `after.ir` of it.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from step_models import hand_plan, prepared, step_of, tiny_config, traced
from typeguard import suppress_type_checks

import ir
import passes
from levanter.cli.main import main
from levanter.compiler import compile as compiler
from passes import PIPELINE, PlanError, pipeline
from passes.stage import Stage

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "passes"
COMMAND = "# levanter "


def command_of(name: str) -> tuple[list[str], Path]:
    """The command on the first line of a pass's `before.ir`, and the file."""
    path = GOLDEN / name / "before.ir"
    assert path.exists(), f"the pass {name} has no golden: write {path}, a few nodes below a line `{COMMAND}ir run …`"
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith(f"{COMMAND}ir run --pass {name}"), f"{path} does not start with its command"
    return shlex.split(first.removeprefix(COMMAND)), path


@pytest.mark.parametrize("name", PIPELINE.names)
def test_a_pass_makes_its_golden(
    name: str, golden: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command, path = command_of(name)
    code = main([*command, str(path)])
    printed, said = capsys.readouterr()
    assert (code, said) == (0, "")
    assert str(ir.verify(ir.parse(printed))) == printed
    golden(printed, f"passes/{name}/after.ir")


def test_pages_call_dumps_by_their_numbers() -> None:
    names = {"00-traced.ir", *(f"{number:02d}-{name}.ir" for number, name in enumerate(PIPELINE.names, start=1))}
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = {name for page in pages for name in re.findall(r"\b\d\d-[a-z_]+\.ir\b", page.read_text(encoding="utf-8"))}
    assert found and found <= names


@pytest.mark.parametrize("name", PIPELINE.names)
def test_a_golden_is_small(name: str) -> None:
    assert len(list(ir.parse(command_of(name)[1].read_text()).walk())) <= 8


def test_no_golden_is_left_of_a_pass_that_is_gone() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(PIPELINE.names)


def test_a_pass_without_a_golden_fails() -> None:
    with pytest.raises(AssertionError, match="the pass fold has no golden: write .*/fold/before.ir"):
        command_of("fold")


@pytest.mark.parametrize("each", PIPELINE.passes)
def test_a_pass_is_one_file_and_one_frozen_dataclass(each: Any) -> None:
    assert is_dataclass(each) and each.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert Path(sys.modules[each.__module__].__file__ or "").stem == each.stem()
    others = [other for other in PIPELINE.passes if other is not each]
    assert each.__module__ not in {other.__module__ for other in others}


def test_the_list_prints_as_its_documentation() -> None:
    lines = str(PIPELINE).splitlines()
    numbered = [line for line in lines if not line.startswith(" ")]
    for i, (line, each) in enumerate(zip(numbered, PIPELINE.passes, strict=True), start=1):
        assert line.startswith(f"{i}. {each.stem()}: ") and line.endswith(".")
    assert lines[:2] == [
        "1. check_axes: raises for axis errors, warns of what is suspicious, changes nothing.",
        "     ignore=(none) (words with commas between): codes of findings that are not wanted: of warnings, and "
        '"order".',
    ]
    assert sum(line.startswith("     ") for line in lines) == sum(len(fields(each)) for each in PIPELINE.passes)  # type: ignore[arg-type]


def test_every_option_says_what_it_means() -> None:
    for name, summary, options in PIPELINE.described():
        assert summary and all(option.meaning and option.values for option in options), name


def test_the_page_of_the_passes_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, "docs/build_passes.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The whole list.


def test_every_graph_is_dumped_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[ir.Graph] = []
    monkeypatch.setattr(pipeline, "verify", lambda graph: (verified.append(graph), graph)[1])
    result = passes.run(traced("mlp"), {"data": 4, "model": 2}, plan=hand_plan("mixed"), dump=tmp_path)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["00-traced.ir", *(f"{i:02d}-{name}.ir" for i, name in enumerate(PIPELINE.names, start=1))]
    graphs = [ir.parse((tmp_path / name).read_text()) for name in files]
    assert graphs == verified
    assert (graphs[2], graphs[-1]) == (result.graph, result.placed)


def test_a_pass_on_the_dump_before_it_makes_its_dump(tmp_path: Path) -> None:
    mesh = passes.DeviceMesh.of({"data": 4, "model": 2})
    plan = hand_plan("mixed")
    passes.run(traced("mlp"), mesh, plan=plan, dump=tmp_path)
    texts = [path.read_text() for path in sorted(tmp_path.iterdir())]
    for name, before, after in zip(PIPELINE.names, texts[:-1], texts[1:], strict=True):
        if name == "canonicalize":  # of a text it merges what the text says all of
            continue
        assert str(pipeline.run_one(name, Stage(ir.parse(before), mesh, plan=plan)).graph) == after, name


def test_the_planned_graph_lies_where_the_placed_one_lies() -> None:
    plan = hand_plan("mixed")
    graph = prepared("mlp")
    planned = pipeline.run_one("plan", Stage(graph, plan.mesh, plan=plan)).graph
    placed = pipeline.place(graph, plan)
    there = {value.id: value.type for value in placed.values()}
    kept = {value.id: value.type for value in planned.values() if value.id in there}
    assert len(kept) > 10 and any(dim.mesh for type_ in kept.values() for dim in type_.dims)
    assert {i for i, type_ in kept.items() if there[i] != type_} == set()


@pytest.mark.parametrize("mesh", ["4x2", None])
def test_each_pass_runs_once(mesh: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """From tracing to the jitted step, and in a report."""
    ran: list[str] = []
    for each in PIPELINE.passes:
        original = _work(each)

        def counted(self: Any, given: Any, of: Any = each, original: Any = original) -> Any:
            if (given.graph if isinstance(given, Stage) else given).name == "train_step":  # and no body of it
                ran.append(of.stem())
            return original(self, given)

        monkeypatch.setattr(each, original.__name__, counted)
    config = tiny_config(**{"trainer.train_batch_size": 32} | ({"trainer.mesh": mesh} if mesh else {}))
    with suppress_type_checks():
        compiler.compile_training(config)
        assert ran == list(PIPELINE.names)
        ran.clear()
        compiler.report(config, config.mesh.as_dict(), "v5e")
    assert ran == list(PIPELINE.names)


def _work(each: Any) -> Any:
    return vars(each).get("apply") or vars(each)["__call__"]


def test_a_placed_step_is_lowered_as_it_stands() -> None:
    result = passes.run(traced("mlp"), {"data": 4, "model": 2}, plan=hand_plan("mixed"))
    again = passes.lower(traced("mlp"), result.plan, jax.devices())
    once = passes.lower_placed(result.placed, result.plan, jax.devices())
    texts = [re.sub(r"loc\(.*", "", step.lower(*step_of("mlp")[1:]).as_text()) for step in (again, once)]  # type: ignore[attr-defined]
    assert texts[0] == texts[1]


def test_a_placed_step_refuses_other_arguments_in_types_without_layouts() -> None:
    result = passes.run(traced("mlp"), {"data": 4, "model": 2}, plan=hand_plan("mixed"))
    step = passes.lower_placed(result.placed, result.plan, jax.devices())
    _, params, batch = step_of("mlp")
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float16), batch)
    with pytest.raises(TypeError) as caught:
        step.lower(params, half)  # type: ignore[attr-defined]
    assert str(caught.value) == (
        "step: argument `x` is f32[batch=8, embed=16]; got f16[batch=8, embed=16]: "
        "another dtype; pass x.astype('float32')"
    )


# What a pass cannot work on.


PLANNED = pipeline.run_one("plan", Stage(prepared("mlp"), hand_plan("mixed").mesh, plan=hand_plan("mixed"))).graph
PLACED = pipeline.place(prepared("mlp"), hand_plan("mixed"))


@pytest.mark.parametrize(
    ("name", "stage", "message"),
    [
        (
            "plan",
            Stage(prepared("mlp")),
            "the pass plan needs a mesh: give one, such as data=4, model=2 (--mesh 4x2)",
        ),
        (
            "partition",
            Stage(PLANNED, hand_plan("dp").mesh, plan=hand_plan("dp")),
            "%0 was laid out by another plan: it is f32[mlp=32@model, embed=16@data], this plan makes it "
            "f32[mlp=32, embed=16]; give the plan that the graph was laid out by, or the graph as it was before plan",
        ),
        (
            "partition",
            Stage(PLACED, hand_plan("mixed").mesh, plan=hand_plan("mixed")),
            "graph 'step' is partitioned already (%{id} is made by all_gather): give the graph as it was before "
            "partition",
        ),
        (
            "check_axes",
            Stage(prepared("mlp"), at_rest=(99,)),
            "input 99 cannot be stored as state is: the graph has 3, counted from 0",
        ),
    ],
)
def test_what_a_pass_refuses(name: str, stage: Stage, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        pipeline.run_one(name, stage)
    said = re.sub(r"\(%\d+ is", "(%{id} is", str(caught.value))
    assert said == message


def test_partition_without_a_plan_says_so() -> None:
    with pytest.raises(PlanError) as caught:
        passes.PIPELINE.named("partition")().apply(Stage(prepared("mlp")))
    assert str(caught.value) == (
        "the pass partition needs a plan: run the pass plan before it, or give one made by hand"
    )


def test_a_wrong_name_and_wrong_options() -> None:
    with pytest.raises(passes.UnknownPass) as unknown:
        PIPELINE.named("partitoin")
    assert str(unknown.value) == (
        f"no pass is called 'partitoin'; did you mean 'partition'? (the passes are {', '.join(PIPELINE.names)})"
    )
    for name, options, message in (
        ("canonicalize", {"merge": "1"}, "the pass canonicalize has no option 'merge': its options are merge_equal"),
        ("plan", {"merge": "1"}, "the pass plan has no option 'merge': its options are time_limit"),
        (
            "canonicalize",
            {"merge_equal": "1"},
            "option merge_equal=1 of the pass canonicalize: give true or false, such as true",
        ),
    ):
        with pytest.raises(passes.BadOption) as bad:
            pipeline.run_one(name, Stage(prepared("mlp"), passes.DeviceMesh.of({"data": 2})), options)
        assert str(bad.value).partition("; did you mean")[0] == message


def test_an_option_reaches_the_pass() -> None:
    graph = ir.parse((GOLDEN / "canonicalize" / "before.ir").read_text())
    kept = pipeline.run_one("canonicalize", Stage(graph), {"merge_equal": "false"}).graph
    assert [node.fn for node in kept.nodes] == ["tanh", "tanh", "mul"]


def test_an_option_of_several_words_reaches_the_pass() -> None:
    with pytest.raises(passes.UnknownCode, match="no finding that can be silenced is called 'indx'"):
        pipeline.run_one("check_axes", Stage(prepared("mlp")), {"ignore": "repeat, indx"})
