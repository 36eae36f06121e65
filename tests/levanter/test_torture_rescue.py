"""Runs that are rewound, skip updates, are cut short by signals and resume on other cores, killed at random moments.

pytest -m torture tests/levanter/test_torture_rescue.py
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rescued import digest, records, write_files

KILLS = int(os.environ.get("LEVANTER_KILLS", "12"))
CORES = sorted(os.sched_getaffinity(0))


def command(folder: Path, run: str, policy: str, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "levanter.cli.main", "train", "--config", str(folder / "tiny.yaml")),
        *("--run-dir", str(folder / run), "--trainer.on_nonfinite", policy, "--trainer.eval_batches", "2"),
        *("--trainer.num_train_steps", "60", "--optimizer.schedule_steps", "60", *options),
    ]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    return kept | {"JAX_PLATFORMS": "cpu"}


def finished(folder: Path, run: str, policy: str, *options: str) -> None:
    done = subprocess.run(
        command(folder, run, policy, *options), cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.torture
@pytest.mark.parametrize("policy", ["rewind", "skip"])
def test_killed_at_random_moments_it_ends_like_an_undisturbed_run(tmp_path: Path, policy: str) -> None:
    folder = write_files(tmp_path).parent
    finished(folder, "undisturbed", policy)
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    number, run = 0, folder / "killed"
    while number < KILLS:
        cores = ",".join(map(str, chance.choice([CORES, CORES[:1]]))) if number else ",".join(map(str, CORES))
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command(folder, "killed", policy)],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # Some die while they start, most while they train: once its numbers change, within a second or two.
        before = _size(run / "metrics.jsonl")
        while process.poll() is None and chance.random() > 0.002 and _size(run / "metrics.jsonl") <= before:
            time.sleep(0.05)
        time.sleep(chance.random() * 1.5)
        if process.poll() is not None:
            output, _ = process.communicate()
            assert process.returncode == 0, output
            break
        process.send_signal(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]))
        output, _ = process.communicate(timeout=300)
        assert process.returncode in (0, -signal.SIGKILL), output
        number += 1
    print(f"{number} signals")
    finished(folder, "killed", policy)
    assert records(run) == records(folder / "undisturbed")
    assert digest(run) == digest(folder / "undisturbed")
    if policy == "rewind":
        assert (run / "rewinds.json").read_bytes() == (folder / "undisturbed" / "rewinds.json").read_bytes()
    proof = subprocess.run(
        [sys.executable, "-m", "levanter.cli.main", "reproduce", str(run), "--steps", "0:60"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert proof.returncode == 0 and " reproduced bit by bit: 60 records" in proof.stdout, proof.stderr


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
