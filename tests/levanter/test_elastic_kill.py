"""An elastic run, killed at random moments and started again on other numbers of devices, makes the same bits.

Real processes, a real `kill -9`; what is compared is that of `test_resume`: every record of `metrics.jsonl` but its
speed, and the digest of the last checkpoint.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from levanter import checkpoint
from levanter.config import load
from levanter.runtime.trainer import train
from levanter.trackers.records import untimed

STEPS = 16
MESHES = ("data=8", "data=4", None, "data=2", "replica=2,data=4")
SHORT = (
    *("--trainer.num_train_steps=8", "--trainer.eval_batches=0"),
    *("--trainer.train_batch_size=8", "--trainer.virtual_shards=8", "--model.hidden_dim=16"),
)
CONFIG = """
model: {{seq_len: 16, hidden_dim: 32, num_heads: 2, num_layers: 1, dropout: 0.1, gradient_checkpointing: false}}
data: {{type: text, paths: ["{folder}/numbers.txt"], cache_dir: "{folder}/cache"}}
optimizer: {{learning_rate: 0.01}}
trainer:
  deterministic: elastic
  train_batch_size: 32
  num_train_steps: {steps}
  eval_every: 5
  eval_batches: 1
  sample_tokens: 0
  checkpoint: {{every_steps: 3, every_minutes: null}}
"""


def started(
    folder: Path, run: Path, mesh: str | None, *options: str, before: tuple[str, ...] = (), launch: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    where = ["--mesh", mesh] if mesh else []
    return subprocess.Popen(
        [
            *(*before, sys.executable, "-m", "levanter.cli.main", *launch, "train"),
            *("--config", str(folder / "tiny.yaml"), "--run-dir", str(run), *where, *options),
        ],
        cwd=folder,
        env={**environment, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output


def steps_done(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def numbers(run: Path) -> list[dict[str, Any]]:
    return [untimed(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [f"The number {n} comes after {n - 1}, and before {n + 1}.\n" for n in range(400)]
    (tmp_path / "numbers.txt").write_text("".join(lines))
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(folder=tmp_path, steps=STEPS))
    return tmp_path


@pytest.mark.hurried
def test_a_killed_run_goes_on_elsewhere_to_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short one: a process on two devices is killed, and this one goes on on four, and makes all of it on one. XLA
    optimizes little; what it optimizes is compared in `test_elastic`."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    killed = folder / "killed"
    process = started(folder, killed, "data=2", *SHORT)
    wait_for(process, killed, random.randint(4, 6))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    trained(folder, killed, "data=4")
    trained(folder, folder / "straight", None)
    assert numbers(killed) == numbers(folder / "straight")
    assert checkpoint.digest(killed) == checkpoint.digest(folder / "straight")


@pytest.mark.slow
def test_several_processes_make_what_one_makes(folder: Path) -> None:
    """Two of two devices each begin, one process on one device goes on."""
    run, schedule = folder / "several", "--optimizer.schedule_steps=8"
    first = (*SHORT, "--trainer.num_train_steps=4", schedule)
    finished(started(folder, run, "data=4", *first, launch=("launch", "--processes", "2", "--")))
    trained(folder, run, None)
    trained(folder, folder / "straight", None)
    assert numbers(run) == numbers(folder / "straight")
    assert checkpoint.digest(run) == checkpoint.digest(folder / "straight")


def trained(folder: Path, run: Path, mesh: str | None) -> None:
    where = [f"--trainer.mesh={mesh}"] if mesh else []
    train(load(folder / "tiny.yaml", [f"--trainer.run_dir={run}", *SHORT, *where]), Console(file=io.StringIO()))


def wait_for(process: subprocess.Popen[str], run: Path, step: int) -> None:
    deadline = time.monotonic() + 900
    while steps_done(run) < step:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.001)


@pytest.mark.torture
def test_a_run_that_is_killed_and_goes_on_elsewhere(folder: Path) -> None:
    finished(started(folder, folder / "straight", "data=2"))
    killed = folder / "killed"
    for i, mesh in enumerate(MESHES):
        process = started(folder, killed, mesh)
        if i + 1 == len(MESHES):
            finished(process)
            break
        until = min(STEPS - 2, steps_done(killed) + random.randint(2, 4))
        print(f"{mesh}: killed at step {until}")
        wait_for(process, killed, until)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert numbers(killed) == numbers(folder / "straight")
    assert checkpoint.digest(killed) == checkpoint.digest(folder / "straight")


@pytest.mark.torture
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_one_core_makes_what_two_make(folder: Path) -> None:
    core = str(min(os.sched_getaffinity(0)))
    finished(started(folder, folder / "one", "data=4", before=("taskset", "-c", core)))
    finished(started(folder, folder / "two", "data=2"))
    assert numbers(folder / "one") == numbers(folder / "two")
    assert checkpoint.digest(folder / "one") == checkpoint.digest(folder / "two")
