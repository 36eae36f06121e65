"""`levanter train`, killed at a random moment and started again, makes the same bits as if nothing had happened.

Real processes, a real `kill -9`. What is compared: every record of `metrics.jsonl` but its speed, and the digest of the
last checkpoint, which covers every bit of the state.
"""

from __future__ import annotations

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

from levanter import checkpoint
from levanter.trackers.records import untimed

STEPS = 24
TEXT = "".join(f"The number {number} comes after {number - 1}, and before {number + 1}.\n" for number in range(400))
CONFIG = """
model: {{seq_len: 16, hidden_dim: 16, num_heads: 2, num_layers: 2, dropout: 0.1}}
data: {{type: text, paths: ["{folder}/numbers.txt"], cache_dir: "{folder}/cache"}}
optimizer: {{learning_rate: 0.01}}
trainer:
  train_batch_size: 4
  num_train_steps: {steps}
  eval_every: 10
  eval_batches: 2
  sample_tokens: 0
  checkpoint: {{every_steps: 5, every_minutes: null}}
"""


def started(folder: Path, run: Path, *options: str) -> subprocess.Popen[str]:
    # The command makes the devices of its mesh itself; the tests' own flag must not do it for it.
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, "-m", "levanter.cli.main", "train", "--config", str(folder / "tiny.yaml")]
    if "--mesh" in options:
        # As fast as it compiles: what an optimized program makes again is seen on one device.
        environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    return subprocess.Popen(
        [*command, "--run-dir", str(run), *options],
        cwd=folder,
        env={**environment, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def steps_done(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    while steps_done(run) < step:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.001)


def numbers(run: Path) -> list[dict[str, Any]]:
    """The records, as text decides them, without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [untimed(json.loads(line)) for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "numbers.txt").write_text(TEXT)
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(folder=tmp_path, steps=STEPS))
    return tmp_path


@pytest.mark.parametrize("mesh", [None, pytest.param("2x2", marks=pytest.mark.slow)])
def test_a_killed_run_ends_like_an_undisturbed_one(folder: Path, mesh: str | None) -> None:
    options = ["--mesh", mesh] if mesh else []
    killed, undisturbed = folder / "killed", folder / "undisturbed"
    # What is made again comes from the cache of compiled programs, what it is compared with does not.
    finished(started(folder, undisturbed, *options, "--trainer.compile_cache", "false"))

    # After the first checkpoint is due, at any moment: also while one is being written.
    kill_at = random.randint(6, STEPS - 4)
    print(f"killed at step {kill_at}")
    process = started(folder, killed, *options)
    wait_for_step(process, killed, kill_at)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert steps_done(killed) < STEPS

    saved = checkpoint.committed(killed / "checkpoints")
    output = finished(started(folder, killed, *options))
    if saved:
        assert f"resuming from {saved[-1]}" in output
    assert numbers(killed) == numbers(undisturbed)
    assert [each["step"] for each in numbers(killed)] == list(range(1, STEPS + 1))
    assert checkpoint.digest(killed) == checkpoint.digest(undisturbed)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 0),
        pytest.param(signal.SIGHUP, 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_with_a_checkpoint(folder: Path, number: signal.Signals, code: int) -> None:
    run = folder / "run"
    options = ["--trainer.num_train_steps", "100000"]
    process = started(folder, run, *options)
    wait_for_step(process, run, 2)
    process.send_signal(number)
    output = finished(process, code=code)
    done = steps_done(run)
    assert [path.name for path in checkpoint.committed(run / "checkpoints")][-1] == f"step-{done}"
    assert f"stopped after step {done} of 100000, saved in {run}/checkpoints/step-{done}" in output
    assert "rerun the same command to resume from there" in output
