"""A run directory has one writer and one config."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from levanter.errors import UserError
from levanter.runtime.run_directory import open_run

CONFIG = """\
model:
  type: gpt2
  hidden_dim: 64
data:
  paths: [a.txt, b.txt]
  cache_dir: null
trainer:
  seed: 0
  mesh: 4x2
  num_train_steps: 100
  checkpoint:
    keep: 2
"""

HOLDER = """
import sys, time
from levanter.runtime.run_directory import open_run
with open_run(sys.argv[1], "trainer: {seed: 0}"):
    print("holding", flush=True)
    time.sleep(60)
"""


def refusal(path: Path, config: str) -> str:
    with pytest.raises(UserError) as caught, open_run(path, config):
        pass
    return str(caught.value)


def test_a_run_directory_is_made(tmp_path: Path) -> None:
    with open_run(tmp_path / "runs" / "nano", CONFIG) as run:
        assert run.path == tmp_path / "runs" / "nano"
        assert run.config_path.read_text() == CONFIG
        assert run.checkpoints_path.is_dir()
        assert run.metrics_path == run.path / "metrics.jsonl"
    assert sorted(entry.name for entry in run.path.iterdir()) == [".lock", "checkpoints", "config.yaml"]


def test_there_is_one_writer_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        message = refusal(path, "trainer: {seed: 1}")
        assert re.fullmatch(
            rf"another process is writing the run directory {path} "
            rf"\(process {holder.pid} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\): "
            r"wait for it or stop it, or choose another one with --run-dir",
            message,
        )
        assert (path / "config.yaml").read_text() == "trainer: {seed: 0}"
        holder.kill()
    with open_run(path, "trainer: {seed: 0}"), pytest.raises(UserError), open_run(path, "trainer: {seed: 0}"):
        pass
    with open_run(path, "trainer: {seed: 0}"):
        pass


def test_what_keeps_the_promise_may_change(tmp_path: Path) -> None:
    longer = CONFIG.replace("100", "200").replace("keep: 2", "keep: 5").replace("null", "/elsewhere")
    for config in (CONFIG, longer):
        with open_run(tmp_path, config) as run:
            assert run.config_path.read_text() == config


def test_another_config_is_refused(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG):
        pass
    other = CONFIG.replace("64", "128").replace("seed: 0", "seed: 1").replace("  mesh: 4x2\n", "").replace("100", "9")
    assert refusal(tmp_path, other.replace("b.txt", "c.txt")) == (
        f"the run directory {tmp_path} belongs to a run with another config (data.paths: ['a.txt', 'b.txt'] → "
        "['a.txt', 'c.txt']; model.hidden_dim: 64 → 128; trainer.mesh: 4x2 → (not set); trainer.seed: 0 → 1): "
        "set these back to go on with it, or choose another directory with --run-dir"
    )
    assert (tmp_path / "config.yaml").read_text() == CONFIG
    with open_run(tmp_path, CONFIG.replace("4x2", "8x1"), may_change=["trainer.mesh"]):
        pass


def test_many_differences_are_counted(tmp_path: Path) -> None:
    with open_run(tmp_path, "".join(f"k{i}: 0\n" for i in range(12))):
        pass
    message = refusal(tmp_path, "".join(f"k{i}: 1\n" for i in range(12)))
    assert "(k0: 0 → 1; k1: 0 → 1; k10: 0 → 1; " in message and "; and 4 more)" in message


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    for damaged in ("[", "just text"):
        (tmp_path / "config.yaml").write_text(damaged)
        assert refusal(tmp_path, CONFIG) == (
            f"{tmp_path}/config.yaml is not a config: put back the one of this run, "
            "or choose another directory with --run-dir"
        )
        assert (tmp_path / "config.yaml").read_text() == damaged


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file", CONFIG) == (
        f"cannot use {tmp_path}/file as a run directory: File exists; choose another one with --run-dir"
    )
    assert refusal(tmp_path / "file" / "run", CONFIG) == (
        f"cannot use {tmp_path}/file/run as a run directory: Not a directory; choose another one with --run-dir"
    )
