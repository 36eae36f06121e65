"""`levanter status` and `levanter plot`: what they read from a run directory, and what they refuse."""

from __future__ import annotations

import fcntl
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from levanter.cli.main import main
from levanter.errors import UserError
from levanter.runtime import plots
from levanter.runtime.curve import curve
from levanter.runtime.status import Status

TIMED = {"tokens_per_second": 2000.0, "step_seconds": 0.5, "data_wait_seconds": 0.005, "checkpoint_stall_seconds": 0.0}
Run = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Makes the directory of a run of so many steps, out of 100, each of half a second."""
    monkeypatch.setattr("time.time", lambda: 10_000.0)

    def make(name: str = "run", steps: int = 40, **more: Any) -> Path:
        path = tmp_path / name
        for step in range(20, steps + 1, 20):
            (path / "checkpoints" / f"step-{step}").mkdir(parents=True)
            (path / "checkpoints" / f"step-{step}" / "manifest.json").write_text("{}")
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text("trainer: {num_train_steps: 100}\n")
        with open(path / "metrics.jsonl", "w") as file:
            for step in range(1, steps + 1):
                clock = {"time": 10_000.0 - 120.0 + 0.5 * step, "run_seconds": 0.75 * step, "goodput": 0.6667}
                record = {
                    "step": step,
                    "loss": 8 * math.exp(-step / 20),
                    "learning_rate": 0.1,
                    **TIMED,
                    **clock,
                    **more,
                }
                if step % 20 == 0:
                    record["heldout_loss"] = record["loss"] + 1
                file.write(json.dumps(record) + "\n")
            file.write('{"step": 99, "lo')
        return path

    return make


def test_where_a_stopped_run_stands(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = run()
    assert main(["status", str(path), "--json"]) == 0
    loss = 8 * math.exp(-2)
    assert json.loads(capsys.readouterr().out) == {
        "run": str(path),
        "state": "stopped",
        "running": False,
        "writer": None,
        "step": 40,
        "num_train_steps": 100,
        "seconds_left": 30.0,
        "seconds_since_last_step": 100.0,
        "loss": loss,
        "heldout_loss": {"step": 40, "loss": loss + 1},
        "tokens_per_second": 2000.0,
        "flops_per_second": None,
        "mfu": None,
        "goodput": 0.6667,
        "data_wait_share": 0.01,
        "checkpoint_stall_share": 0.0,
        "last_checkpoint": {"step": 40, "path": str(path / "checkpoints" / "step-40")},
    }
    assert main(["status", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:7] == [
        f"{path}  stopped",
        "  step        40 of 100 (40%), the last one 1m40s ago",
        "  loss        1.0827, held-out 2.0827 at step 40",
        "  speed       2,000 tokens/s",
        "  time        goodput 67% since the first start, 1.0% waits for data, 0.0% waits for checkpoints",
        f"  checkpoint  {path}/checkpoints/step-40",
        "",
    ]
    assert lines[7] == "   7.61 ┤⠑⠢⡀"
    assert lines[-1].split() == ["1", "40"]


def test_a_run_that_is_being_written(run: Run) -> None:
    path = run(flops_per_second=3e12, mfu=0.415)
    with open(path / ".lock", "w") as lock:
        lock.write("process 7 on here, since noon\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = Status.of(path)
    lines = list(found.lines())
    assert found.state == "running"
    assert lines[0] == f"{path}  running (process 7 on here, since noon)"
    assert lines[1] == "  step        40 of 100 (40%), about 30s left, the last one 1m40s ago"
    assert lines[3] == "  speed       2,000 tokens/s, 3e+12 FLOP/s, MFU 41.5%"
    assert Status.of(run("done", steps=100)).state == "finished"


def test_a_run_that_has_no_step_yet(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = run(steps=0)
    assert main(["status", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}  stopped",
        "  step        0 of 100 (0%)",
        "  checkpoint  none yet",
    ]
    with pytest.raises(UserError) as caught:
        plots.curves([path], [], "step", 1)
    assert str(caught.value) == f"nothing to draw of {path}: no step is done"


def test_a_run_that_diverged_is_shown(run: Run) -> None:
    path = run()
    with open(path / "metrics.jsonl", "a") as file:
        file.write('\n{"step": 41, "loss": "NaN"}\n')
    found = Status.of(path)
    assert found.facts()["loss"] == "nan" and json.dumps(found.facts(), allow_nan=False)
    assert "  loss        nan, held-out 2.0827 at step 40" in list(found.lines())


@pytest.mark.parametrize("config", [b"\xff\xfe\0bad", b"trainer: {num_train_steps: many}", b"trainer: [", b""])
def test_a_run_whose_config_is_damaged_is_shown(run: Run, config: bytes) -> None:
    path = run()
    (path / "config.yaml").write_bytes(config)
    assert list(Status.of(path).lines())[1].startswith("  step        40, the last one ")


def test_several_runs_below_one_another(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [run("one", steps=0), run("two", steps=0)]
    assert main(["status", *map(str, paths)]) == 0
    assert capsys.readouterr().out.splitlines()[3:5] == ["", f"{paths[1]}  stopped"]
    assert main(["status", "--json", *map(str, paths)]) == 0
    assert [each["run"] for each in json.loads(capsys.readouterr().out)] == list(map(str, paths))


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "plot"):
        assert main([command, str(tmp_path)]) == 2
        assert capsys.readouterr().err == (
            f"error: `{tmp_path}` is not a run directory (it has no config.yaml): give the --run-dir of a run\n"
        )


# --- the curve in a terminal ----------------------------------------------------------------------------------------


def test_a_falling_line() -> None:
    assert curve([0, 1], [1.0, 0.0], width=4, height=2) == ["1 ┤⠑⢄", "0 ┤⠀⠀⠑⢄", "   0  1"]


def test_a_constant_a_point_and_nothing() -> None:
    assert curve([1, 2], [3.0, 3.0], width=2, height=1) == ["3 ┤⠤⠤", "   1 2"]
    assert curve([5], [2.0], width=2, height=1)[0].startswith("2 ┤")
    assert curve([1, 2], [math.nan, math.inf]) == [] == curve([], [])


def test_all_dots_stay_in_the_chart() -> None:
    ys = [math.sin(n * n) for n in range(200)]
    lines = curve(list(range(200)), ys, width=30, height=6)
    assert len(lines) == 7 and all(len(line) <= 30 + 10 for line in lines[:-1])


# --- files ----------------------------------------------------------------------------------------------------------


def test_curves_of_two_runs(run: Run) -> None:
    found = plots.curves([run("one"), run("two", steps=20)], [], "step", 1)
    assert list(found) == ["loss", "heldout_loss", "learning_rate", "tokens_per_second"]
    assert [(each.run, len(each.xs)) for each in found["loss"]] == [("one", 40), ("two", 20)]
    assert [each.xs for each in found["heldout_loss"]] == [[20, 40], [20]]


def test_curves_by_pattern_over_hours_and_smoothed(run: Run) -> None:
    path = run("one", **{"gradient_norm/head": 2.0, "gradient_norm/tail": 3.0})
    found = plots.curves([path], ["gradient_norm/*", "loss"], "hours", 2)
    assert list(found) == ["gradient_norm/head", "gradient_norm/tail", "loss"]
    (loss,) = found["loss"]
    assert loss.xs[1] == pytest.approx(1.5 / 3600)
    assert loss.ys[1] == pytest.approx(8 * (math.exp(-1 / 20) + math.exp(-2 / 20)) / 2)


def test_html_needs_nothing_else(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly")
    assert main(["plot", str(run("one")), str(run("two")), "-o", str(tmp_path / "both.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'both.html'}\n"
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "plotly.js v" in text and "<script src=" not in text
    assert '"name":"one"' in text and '"name":"two"' in text and "heldout_loss" in text
    # Two held-out losses of one run, one of the other: a point that is alone would have no line.
    assert text.count('"mode":"lines+markers"') >= 2


@pytest.mark.parametrize(("ending", "first"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_images(run: Run, tmp_path: Path, ending: str, first: bytes) -> None:
    pytest.importorskip("matplotlib")
    assert main(["plot", str(run()), "--metric", "loss", "-o", str(tmp_path / f"loss.{ending}")]) == 0
    assert (tmp_path / f"loss.{ending}").read_bytes().startswith(first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "curves.gif"], "cannot draw into curves.gif: name a file that ends in .html, .png, .svg, .pdf"),
        (["--metric", "los"], "no metric `los` in these runs: did you mean `loss`?"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    run: Run, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", str(run()), *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_folder_that_is_not_there_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plots, "_html", lambda found, over: "")
    assert main(["plot", str(run()), "-o", str(tmp_path / "none" / "curves.html")]) == 2
    assert capsys.readouterr().err == (
        f"error: cannot write {tmp_path}/none/curves.html: no such file or directory; name another file with -o\n"
    )


@pytest.mark.parametrize(("package", "ending"), [("plotly", "html"), ("matplotlib", "png")])
def test_what_draws_is_named_where_it_is_missing(
    run: Run, package: str, ending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["plot", str(run()), "-o", f"curves.{ending}"]) == 2
    assert capsys.readouterr().err == (
        f"error: levanter plot needs the Python package `{package}`, which is not installed: "
        'run pip install "levanter-compiler[plot]", or pip install -e ".[plot]" in the checkout\n'
    )
