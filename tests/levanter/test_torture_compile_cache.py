"""`-m torture`: two runs at a time on one cache of programs, one of them killed at any moment, have the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from levanter import checkpoint

CONFIG = """
model: {{seq_len: 16, hidden_dim: 16, num_heads: 2, num_layers: 2, dropout: 0.1}}
data: {{type: text, paths: ["{folder}/numbers.txt"]}}
trainer: {{train_batch_size: 4, num_train_steps: 40, eval_every: 20, eval_batches: 2, sample_tokens: 0}}
"""
ROUNDS = 6


@pytest.mark.torture
def test_runs_that_share_programs_and_are_killed_end_with_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("".join(f"The number {n} comes after {n - 1}.\n" for n in range(600)))
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(folder=tmp_path))
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}

    def started(name: str, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "levanter.cli.main", "train", "--config", str(tmp_path / "tiny.yaml")]
        return subprocess.Popen(
            [*command, "--run-dir", str(tmp_path / name), *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finished(process: subprocess.Popen[str]) -> None:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0 and "Warning" not in output, output

    names = ["plain"]
    for number in range(ROUNDS):
        killed, other = started(f"killed{number}"), started(f"other{number}")
        time.sleep(random.uniform(2, 11))
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        finished(other)
        finished(started(f"killed{number}"))
        names += [f"killed{number}", f"other{number}"]
    finished(started("plain", "--trainer.compile_cache", "false"))
    assert len({checkpoint.digest(tmp_path / name) for name in names}) == 1
    (programs,) = (tmp_path / "cache" / "levanter-compiler" / "programs").glob("*/")
    assert programs.is_dir() and not list(programs.glob(".in-use-*"))
