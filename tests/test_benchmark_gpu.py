"""benchmarks/gpu.py at its tiny size, on a CPU: both sides train the same model and are measured in one call."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[1]


def test_both_sides_are_the_same_model_and_learn(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--tiny", "--steps", "20", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [(row["model"], row["side"]) for row in rows] == [
        (model, side) for model in ("gpt2_small", "llama3_1b") for side in ("ours", "torch.compile")
    ]
    for one, other in (rows[:2], rows[2:]):
        for key in ("parameters", "flops_per_token", "batch", "position"):
            assert one[key] == other[key]
        # Both start from the loss of a guess among 384 ids, and learn the one batch that they are given.
        assert one["first_loss"] == pytest.approx(math.log(384), abs=0.1) == other["first_loss"]
        assert all(each["last_loss"] < each["first_loss"] - 0.05 for each in (one, other))
        assert one["tokens_per_second"] > 0 and one["mfu"] is None
    assert len(done.stdout.splitlines()) == 6


def test_the_time_limit_is_kept_and_said(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--tiny", "--limit", "1", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert {row["error"] for row in json.loads(out.read_text())["rows"]} == {"no time left"}
