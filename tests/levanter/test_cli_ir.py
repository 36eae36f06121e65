"""`levanter ir diff` on the numbered dumps of `levanter compile --dump-ir`, and on files; `levanter ir run`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ir
import passes
from haliax import Axis, NamedArray
from levanter.cli.main import main

GRAPH = "graph g {{\n  inputs\n    %0: f32[batch=2]  x\n  %1: f32[batch=2] = map.{fn}(%0)\n  outputs\n    %1\n}}\n"


def step(params: dict[str, NamedArray], x: NamedArray) -> Any:
    def loss_of(p: dict[str, NamedArray]) -> Any:
        hidden = jnp.tanh(x.array @ p["up"].array)
        return jnp.square(jnp.tanh(x.array @ p["up"].array) + hidden).mean()

    loss, gradients = jax.value_and_grad(loss_of)(params)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), loss


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `levanter compile --dump-ir` writes, of a small step."""
    folder: Path = tmp_path_factory.mktemp("dumps")
    Batch, Embed, Mlp = Axis("batch", 8), Axis("embed", 4), Axis("mlp", 16)
    up, x = (
        NamedArray(jax.ShapeDtypeStruct(tuple(a.size for a in axes), jnp.float32), axes)
        for axes in ((Embed, Mlp), (Batch, Embed))
    )
    mesh = {"data": 2, "model": 2}
    plan = passes.Plan.by_hand(mesh, {"batch": ("data",), "mlp": ("model",)}, {"embed": ("data",)})
    passes.run(ir.trace(step, {"up": up}, x), mesh, plan=plan, dump=folder)
    return folder


def diff(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["ir", "diff", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_folder_shows_what_each_pass_changed(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = sorted(path.name for path in dumps.iterdir())
    code, printed, _ = diff(capsys, dumps)
    headers = [line.removeprefix(f"--- {dumps}/") for line in printed.splitlines() if line.startswith("--- ")]
    assert (code, headers) == (0, names[:-1])
    reports = dict(zip(names[1:], printed.split("--- ")[1:], strict=True))
    assert reports["01-check_axes.ir"].splitlines()[2] == "no changes"
    assert "computed once now" in reports["02-canonicalize.ir"]
    assert "layouts changed" in reports["06-plan.ir"].splitlines()[2]
    assert "all_gather" in reports["07-partition.ir"]


def test_two_folders_compare_what_both_have(dumps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "00-traced.ir").write_text((dumps / "00-traced.ir").read_text())
    code, printed, _ = diff(capsys, dumps, tmp_path)
    assert (code, printed) == (0, f"--- {dumps}/00-traced.ir\n+++ {tmp_path}/00-traced.ir\nno changes\n")


def test_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fn in ("sin", "cos"):
        (tmp_path / f"{fn}.ir").write_text(GRAPH.format(fn=fn))
    code, printed, _ = diff(capsys, tmp_path / "sin.ir", tmp_path / "cos.ir")
    assert code == 0
    assert printed == (
        f"--- {tmp_path}/sin.ir\n+++ {tmp_path}/cos.ir\n"
        "1 changed\n\n-- forward --\n- f32[batch=2] = map.sin(x)\n+ f32[batch=2] = map.cos(x)\n"
    )


@pytest.mark.parametrize(
    "text",
    ["x" * 18_000, "x " * 9_000, "graph g { " + "y" * 18_000, "graph g {\n  %0 = " + "f(" * 9_000, "é\n" * 9_000],
)
def test_a_long_text_that_is_no_graph_is_not_echoed(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "good.txt"
    file.write_text(text)
    code, printed, message = diff(capsys, file, file)
    assert (code, printed) == (2, "") and message.startswith(f"error: `{file}` is not a graph: ")
    assert len(message) < 800 and "^" in message


def test_wrong_input_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, broken, empty = tmp_path / "one.ir", tmp_path / "broken.ir", tmp_path / "empty"
    one.write_text(GRAPH.format(fn="sin"))
    broken.write_text("grph g {\n}\n")
    empty.mkdir()
    for arguments, message in (
        ((one, tmp_path), f"`{one}` and `{tmp_path}`: give two files or two folders"),
        ((one,), f"`{one}` is not a folder: give the folder of a --dump-ir, or two files"),
        ((empty,), f"no graphs in `{empty}`: give the folder of a --dump-ir, or two files"),
        ((tmp_path, empty), f"no graph is in both `{tmp_path}` and `{empty}`: give two files"),
        ((one, "none.ir"), "cannot read `none.ir`: no such file or directory: check the path"),
    ):
        assert diff(capsys, *arguments) == (2, "", f"error: {message}\n")
    code, printed, message = diff(capsys, one, broken)
    assert (code, printed) == (2, "")
    assert message.startswith(f"error: `{broken}` is not a graph: expected ")
    assert "  1 | grph g {\n    | ^^^^" in message


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["ir", "run", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def one(tmp_path: Path) -> Path:
    path = tmp_path / "one.ir"
    path.write_text(GRAPH.format(fn="sin"))
    return path


def test_a_pass_reads_stdin_and_writes_a_file(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(one.read_text()))
    out = tmp_path / "out.ir"
    mesh = ("--mesh", "2", "--compute", "batch=data")
    assert run(capsys, "--pass", "plan", *mesh, "-o", out, "-") == (0, "", "")
    assert "%1: f32[batch=2@data] = map.sin(%0)" in out.read_text()
    code, printed, _ = run(capsys, "--pass", "partition", *mesh, out)
    assert (code, printed) == (0, out.read_text())


def test_what_lies_at_rest_is_laid_out_like_state(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = ("--mesh", "2", "--storage", "batch=data")
    assert "%0: f32[batch=2]" in run(capsys, "--pass", "plan", *mesh, one)[1]
    assert "%0: f32[batch=2@data]" in run(capsys, "--pass", "plan", *mesh, "--at-rest", "0", one)[1]


def test_warnings_stand_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = tmp_path / "twice.ir"
    twice.write_text(
        "graph g {\n  inputs\n    %0: f32[batch=4, embed=8]  x\n"
        "  %1: f32[batch=4] = reduce.sum(%0) over=[embed=8]\n  %2: f32[batch=4] = map.div(%1, 8.0:f32[])\n"
        "  %3: f32[] = reduce.sum(%2) over=[batch=4]\n  outputs\n    %3\n}\n"
    )
    code, printed, said = run(capsys, "--pass", "check_axes", twice)
    assert code == 0 and ir.parse(printed) == ir.parse(twice.read_text())
    assert said.startswith("warning[mean-then-sum]: a mean over `embed`")
    assert run(capsys, "--pass", "check_axes", "--option", "ignore=mean-then-sum", twice)[2] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--pass", "partitoin"),
            "no pass is called 'partitoin'; did you mean 'partition'? "
            f"(the passes are {', '.join(passes.PIPELINE.names)})",
        ),
        (("--pass", "plan"), "the pass plan needs a mesh: give one, such as data=4, model=2 (--mesh 4x2)"),
        (
            ("--pass", "plan", "--option", "fast=1", "--mesh", "2"),
            "the pass plan has no option 'fast': its options are time_limit",
        ),
        (("--pass", "plan", "--option", "fast"), "--option fast: write NAME=VALUE, such as --option merge_equal=false"),
        (
            ("--pass", "plan", "--mesh", "2", "--compute", "batch"),
            "--compute batch: write NAME=VALUE, such as --compute mlp=model",
        ),
        (
            ("--pass", "plan", "--at-rest", "x"),
            "--at-rest x: give positions of inputs, counted from 0, such as --at-rest 0,1",
        ),
        (
            ("--pass", "canonicalize", "-o", "/nowhere/x.ir"),
            "cannot write `/nowhere/x.ir`: no such file or directory: name another file",
        ),
    ],
)
def test_a_wrong_run_exits_2(
    arguments: tuple[str, ...], message: str, one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, *arguments, one) == (2, "", f"error: {message}\n")


def test_a_run_on_what_is_no_good_graph_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, malformed, wrong = (tmp_path / f"{name}.ir" for name in ("broken", "malformed", "wrong"))
    broken.write_text("grph g {\n}\n")
    malformed.write_text(GRAPH.format(fn="sin").replace("map.sin", "frobnicate"))
    wrong.write_text(
        "graph g {\n  inputs\n    %0: f32[batch=4]  x\n    %1: f32[embed=4]  y\n"
        "  %2: f32[batch=4] = map.add(%0, %1)\n  outputs\n    %2\n}\n"
    )
    for path, start in (
        (broken, f"error: `{broken}` is not a graph: expected `graph`"),
        (malformed, f"error: `{malformed}` is not a graph: "),
        (wrong, "error: "),
    ):
        code, printed, said = run(capsys, "--pass", "check_axes", path)
        assert (code, printed) == (2, "") and said.startswith(start)


def test_of_a_text_nothing_is_merged_that_may_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exponent of a power, the start of a slice: the text does not write them."""
    path = tmp_path / "powers.ir"
    path.write_text(
        "graph g {\n  inputs\n    %0: f32[batch=2]  x\n  %1: f32[batch=2] = map.integer_pow(%0)\n"
        "  %2: f32[batch=2] = map.integer_pow(%0)\n  outputs\n    %1\n    %2\n}\n"
    )
    code, printed, _ = run(capsys, "--pass", "canonicalize", path)
    assert code == 0 and ir.parse(printed) == ir.parse(path.read_text())


BLOCK = Path(__file__).parents[1] / "golden" / "passes" / "prove" / "before.ir"


def prove(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["ir", "prove", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def block(tmp_path: Path) -> Path:
    """A partitioned graph, to be edited by hand."""
    path = tmp_path / "block.ir"
    path.write_text(BLOCK.read_text().partition("\n")[2])
    return path


def test_the_dump_of_the_last_pass_proves(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last, before = max(dumps.iterdir()), dumps / "02-canonicalize.ir"
    code, printed, errors = prove(capsys, last, "--against", before, "--mesh", "2x2")
    assert (code, errors) == (0, "")
    assert printed == f"proved: {len(list(ir.parse(last.read_text()).values()))} values, 0 assumptions\n"


def test_a_text_that_a_hand_has_spoiled_is_refuted(block: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(capsys, block) == (0, "proved: 10 values, 0 assumptions\n", "")
    text = block.read_text()
    dropped = [line.replace("map.add(%7", "map.add(%6") for line in text.splitlines() if "all_reduce" not in line]
    block.write_text("\n".join(dropped) + "\n")
    code, printed, errors = prove(capsys, block)
    assert (code, printed) == (1, "")
    assert errors.splitlines()[0] == (
        "error: graph block is refuted at map.add (block.py:8): operand 1, %8: it is not partial over model, as %6 is: "
        "each device would bring all of it, and the pending sum over model would count it once a device; make that sum "
        "first"
    )


def test_what_the_verifier_refuses_too_is_refuted_in_the_words_of_the_proof(
    block: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block.write_text(block.read_text().replace("mesh=[model]", "mesh=[data]"))
    code, _, errors = prove(capsys, block)
    assert code == 1 and "refuted at all_reduce (block.py:7): operand 0, %6: it is partial over model only" in errors


def test_another_step_is_refuted_and_what_is_no_graph_exits_2(block: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = block.with_name("other.ir")
    other.write_text(GRAPH.format(fn="sin"))
    code, _, errors = prove(capsys, block, "--against", other)
    assert code == 1 and "refuted at inputs: the step before partition has the inputs f32[batch=2]" in errors
    other.write_text("no graph")
    assert prove(capsys, block, "--against", other)[0] == prove(capsys, other)[0] == 2
    other.write_text(block.read_text().replace("map.tanh(%4)", "map.tanh(%4, %4, %77)"))
    assert prove(capsys, other)[0] == 2
    assert prove(capsys, block, "--mesh", "3")[0] == 1
