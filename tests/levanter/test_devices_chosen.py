"""`--devices N`: the planner chooses the mesh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from levanter.cli.main import main

MODEL = ["--model", "gpt2_nano", "--model.hidden_dim=32", "--model.num_heads=2", "--model.num_layers=1"]
SMALL = [*MODEL, "--batch-size", "6", "--seq-len", "16", "--model.vocab_size=64"]


def test_compile_takes_the_fastest_mesh(capsys: pytest.CaptureFixture[str]) -> None:
    """The batch of 6 does not divide over data=4: that mesh is listed with the reason."""
    assert main(["compile", *SMALL, "--devices", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["mesh"] for each in found["meshes"]] == [{"data": 2, "model": 2}, {"data": 4}]
    assert found["mesh"] == {"data": 2, "model": 2} and found["devices"] == 4
    assert found["time"]["step"] == pytest.approx(found["meshes"][0]["step"])
    assert found["meshes"][1] == {
        "mesh": {"data": 4},
        "step": None,
        "peak": None,
        "refused": "trainer.train_batch_size=6 does not divide over data=4: use 4 or 8, or a mesh with data=3",
        "network": {},
    }
    assert found["network"] == {
        "islands": 1,
        "island": 4,
        "form": [2, 2],
        "axes": {"data": {"inside": [2, 1], "across": 1}, "model": {"inside": [1, 2], "across": 1}},
        "given": {},
        "reason": "",
    }


@pytest.mark.parametrize(("option", "given"), [("--mesh", "4x2"), ("--plan", "plan.yaml"), ("--compute", "batch=data")])
def test_devices_alone(option: str, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", *SMALL, "--devices", "8", option, given]) == 2
    assert capsys.readouterr().err == (
        f"error: --devices 8 and {option} {given}: --devices lets the planner choose the mesh; leave out one of them\n"
    )


@pytest.mark.slow
def test_train_takes_it_and_resumes(tmp_path: Path) -> None:
    """The mesh is one of the run: the same command resumes it."""
    text = tmp_path / "text.txt"
    text.write_text("a text of a few words that says nothing, and says it again. " * 200)
    given = ["--model.seq_len=16", "--trainer.train_batch_size=8", "--data.type=text", f"--data.paths=[{text}]"]
    trainer = ["--trainer.num_train_steps=3", "--trainer.eval_batches=0", "--trainer.sample_tokens=0"]

    def train() -> str:
        command = [sys.executable, "-m", "levanter.cli.main", "train", *MODEL, *given, *trainer, "--devices", "4"]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
        done = subprocess.run(
            [*command, "--run-dir", str(tmp_path / "run")], capture_output=True, text=True, env=environment, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = train()
    assert "the fastest of 2 for v5e" in first
    kept = (tmp_path / "run" / "config.yaml").read_text()
    assert "mesh: data=4" in kept or "mesh: data=2,model=2" in kept
    train()
    assert (tmp_path / "run" / "config.yaml").read_text() == kept
