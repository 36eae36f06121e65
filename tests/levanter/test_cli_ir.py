"""`levanter ir diff` on the numbered dumps of `levanter compile --dump-ir`, and on files."""

from __future__ import annotations

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
    assert "layouts changed" in reports["03-partition.ir"].splitlines()[2]


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
    assert (code, printed) == (2, "") and message.startswith(f"error: `{file}` is no graph: ")
    assert len(message) < 800 and "^" in message


def test_wrong_input_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, broken, empty = tmp_path / "one.ir", tmp_path / "broken.ir", tmp_path / "empty"
    one.write_text(GRAPH.format(fn="sin"))
    broken.write_text("grph g {\n}\n")
    empty.mkdir()
    for arguments, message in (
        ((one, tmp_path), f"`{one}` and `{tmp_path}`: give two files or two folders"),
        ((one,), f"`{one}` is no folder: give the folder of a --dump-ir, or two files"),
        ((empty,), f"no graphs in `{empty}`: give the folder of a --dump-ir, or two files"),
        ((tmp_path, empty), f"no graph is in both `{tmp_path}` and `{empty}`: give two files"),
        ((one, "none.ir"), "cannot read `none.ir`: no such file or directory: check the path"),
    ):
        assert diff(capsys, *arguments) == (2, "", f"error: {message}\n")
    code, printed, message = diff(capsys, one, broken)
    assert (code, printed) == (2, "")
    assert message.startswith(f"error: `{broken}` is no graph: expected ")
    assert "  1 | grph g {\n    | ^^^^" in message
