"""Mirrors of the record: what they are told, and that nothing which happens in one stops a run."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import draccus
import pytest
from rich.console import Console

from levanter.runtime.run_directory import RunDirectory
from levanter.trackers.config import TrackedRun
from levanter.trackers.section import TrackersConfig
from levanter.trackers.tracker import Tracker
from levanter.trackers.trackers import Trackers, open_trackers


def opened(path: Path, resumed_step: int = 0, **sections: dict[str, Any]) -> Trackers:
    config = draccus.decode(TrackersConfig, {"console": {"enabled": False}, **sections})
    run = TrackedRun(RunDirectory(path), {"trainer": {"seed": 3}}, resumed_step, 9, Console(file=io.StringIO()))
    return open_trackers(config, run)


# --- failures -------------------------------------------------------------------------------------------------------


class Failing(Tracker):
    def __init__(self, method: str) -> None:
        self.method, self.calls = method, list[str]()

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if method == self.method:
            raise RuntimeError("no network.\nmore of it")

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        self._called("log")

    def sync(self) -> None:
        self._called("sync")

    def close(self) -> None:
        self._called("close")


@pytest.mark.parametrize("method", ["log", "sync", "close"])
def test_a_mirror_that_fails_is_left_out(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    failing, well = Failing(method), Failing("never")
    with Trackers([("first", failing), ("second", well)]) as trackers:
        for step in (1, 2):
            trackers.log(step, {})
            trackers.sync()
    assert well.calls == ["log", "sync", "log", "sync", "close"]
    assert failing.calls == {"log": ["log"], "sync": ["log", "sync"], "close": well.calls}[method]
    assert capsys.readouterr().err == (
        "the tracker first failed (no network): the run continues without it, and metrics.jsonl has every step\n"
    )


def test_what_the_record_raises_is_raised() -> None:
    failing = Failing("log")
    failing.vital = True
    with pytest.raises(RuntimeError, match=r"^no network"), Trackers([("metrics_file", failing)]) as trackers:
        trackers.log(1, {})


def test_a_run_resumes_without_a_mirror_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("levanter.trackers.tensorboard.mirror.TensorboardMirror.__init__", refuse)
    with pytest.raises(OSError, match="no space left"):
        opened(tmp_path, tensorboard={"enabled": True})
    with opened(tmp_path, 1, tensorboard={"enabled": True}) as trackers:
        trackers.log(2, {"loss": 0.5})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 2, "loss": 0.5}\n'
    assert capsys.readouterr().err == (
        "the tracker tensorboard failed (no space left): the run continues without it, and metrics.jsonl has every "
        "step\n"
    )


# --- TensorBoard ----------------------------------------------------------------------------------------------------


def events(file: Path) -> Iterator[Any]:
    """The events of a file: each is its length, a check of that, its bytes and a check of those."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportMissingImports]

    content = file.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def test_tensorboard_shows_one_line_through_a_restart(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with opened(tmp_path, tensorboard={"enabled": True}) as trackers:
        for step in (1, 2, 3):
            trackers.log(step, {"loss": 1 / step, "update_norm/head": float("nan")})
    with opened(tmp_path, 2, tensorboard={"enabled": True}) as trackers:
        trackers.log(3, {"loss": 0.25})
    first, second = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    values = [
        (each.step, value.tag, value.simple_value)
        for each in events(first)
        for value in each.summary.value
        if value.tag == "loss"
    ]
    assert values == [(1, "loss", 1.0), (2, "loss", 0.5), (3, "loss", pytest.approx(1 / 3))]
    assert any("seed: 3" in str(each) for each in events(first))
    resumed = list(events(second))
    assert any(each.HasField("session_log") and each.step == 3 for each in resumed)
    assert [(each.step, each.summary.value[0].simple_value) for each in resumed if "loss" in str(each)] == [(3, 0.25)]


# --- Trackio --------------------------------------------------------------------------------------------------------

TRACKIO = """
import sys
from pathlib import Path
from levanter.trackers.trackio.mirror import TrackioMirror

resumed = int(sys.argv[1])
mirror = TrackioMirror(Path("run"), {"trainer": {"seed": 3}}, {"project": "numbers"})
for step in range(resumed + 1, resumed + 3):
    mirror.log(step, {"loss": 1 / step, "time": 1.7e9 + step})
mirror.close()
"""


def test_trackio_keeps_one_run_through_a_restart(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    (tmp_path / "run").mkdir()
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    for resumed in ("0", "2"):
        command = [sys.executable, "-c", TRACKIO, resumed]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert "Warning" not in done.stderr
    (database,) = (tmp_path / "trackio").glob("numbers*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select run_name, step, metrics from metrics order by step").fetchall()
    name = (tmp_path / "run" / "trackio" / "name").read_text().strip()
    assert [(run, step) for run, step, _ in rows] == [(name, step) for step in (1, 2, 3, 4)]
    assert [json.loads(text)["loss"] for _, _, text in rows] == [1.0, 0.5, 1 / 3, 0.25]
