"""The guides: every command in them is run, or says which hardware it needs."""

from __future__ import annotations

import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pages
import pytest

from levanter.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("training", "tpu-vm", "cuda")
ELSEWHERE = re.compile(r"# (on the (machine|TPU VM|GPU machine)|needs Google Cloud)$")
"""How a line says that it is not run here."""
SMALL = [
    *("--model.seq_len", "16", "--model.hidden_dim", "16", "--model.num_heads", "2", "--model.num_layers", "1"),
    *("--trainer.train_batch_size", "4", "--trainer.eval_batches", "1", "--trainer.sample_tokens", "2"),
    *("--data.type", "text", "--data.paths", "[text.txt]"),
]
"""What makes a run of a guide short."""


def commands(guide: str) -> list[str]:
    page = (DOCS / f"getting-started-{guide}.md").read_text(encoding="utf-8")
    lines = [line for block in pages.fenced(page, "bash") for line in block.text.splitlines() if line.strip()]
    return [line for line in lines if not ELSEWHERE.search(line)]


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_the_commands_of_a_guide_work_in_order(
    guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NPROC", "XLA_FLAGS"):  # which a run fixes for its process
        monkeypatch.setenv(name, os.environ.get(name, ""))
    if not os.environ["NPROC"]:
        monkeypatch.delenv("NPROC")
    (tmp_path / "text.txt").write_text("".join(f"The number {n} comes after {n - 1}.\n" for n in range(300)))
    said: dict[str, str] = {}
    for line in commands(guide):
        command, _, file = line.partition(" > ")
        name, *arguments = shlex.split(command)
        assert name == "levanter", f"{line}: a command that is not run says where it is to be run"
        if "plot" in arguments and find_spec("plotly") is None:
            continue
        small = SMALL if arguments[0] == "train" and "--help" not in arguments else []
        assert main([*arguments, *small]) == 0, f"{line}\n{capsys.readouterr().err}"
        said[line] = capsys.readouterr().out
        if file:
            (tmp_path / file).write_text(said[line])
    if guide == "training":
        resumed = said["levanter train --run-dir runs/first --trainer.num_train_steps 6"]
        assert "runs/first/checkpoints/step-4" in resumed.splitlines()[0]
        assert "learning_rate" in said["levanter config --explain"]
        assert (tmp_path / "curves.html").exists() == (find_spec("plotly") is not None)


def test_every_page_that_a_guide_names_is_there() -> None:
    for guide in GUIDES:
        page = (DOCS / f"getting-started-{guide}.md").read_text(encoding="utf-8")
        for name in re.findall(r"\]\(([\w-]+\.md)", page):
            assert (DOCS / name).exists(), f"{guide}: {name}"
