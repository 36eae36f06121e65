"""docs/checkpoints.md and docs/getting-started-multihost.md: what they show is so, and their commands are there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pages
import pytest
import yaml

from levanter.checkpoint import CheckpointConfig
from levanter.cli.main import levanter

ROOT = Path(__file__).parents[2]
CHECKPOINTS, MULTIHOST = (ROOT / "docs" / f"{name}.md" for name in ("checkpoints", "getting-started-multihost"))


def commands(page: Path) -> list[list[str]]:
    """Every `levanter …` that stands in a block, as words."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^(?: *|srun .* |.* +')(levanter (?:[^\n'#`]|\n {5}--)*)", text, re.MULTILINE)
    return [shlex.split(each) for each in found]


def test_the_page_of_checkpoints(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pages.held(CHECKPOINTS, request.config.getoption("--update-golden"))


def test_the_fields_of_checkpoints_are_there() -> None:
    block = re.search(r"^    trainer:\n(?:     .*\n)+", CHECKPOINTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert block is not None
    fields = yaml.safe_load(block[0])["trainer"]["checkpoint"]
    assert CheckpointConfig(**fields).keep_every == 10000 and set(fields) == set(vars(CheckpointConfig()))


def test_the_commands_for_several_processes_are_there() -> None:
    found = commands(MULTIHOST)
    assert len(found) >= 5
    for command in found:
        subcommand = levanter.commands[command[1]]
        options = {option for parameter in subcommand.params for option in parameter.opts}
        if command[1] == "launch":
            assert isinstance(subcommand, click.Command) and "train" in command
            options |= {option for parameter in levanter.commands["train"].params for option in parameter.opts}
        own = [word for word in command if re.fullmatch(r"--[a-z-]+", word) and word != "--"]
        assert set(own) <= options, command


@pytest.mark.slow
def test_what_can_be_tried_on_one_machine_works(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    short = ["--trainer.train_batch_size", "2", "--trainer.eval_batches", "1", "--trainer.sample_tokens", "2"]
    first, second = commands(MULTIHOST)[:2]
    first += ["--trainer.num_train_steps", "1"]
    second[second.index("--trainer.num_train_steps") + 1] = "2"
    for command in (first, second):
        done = subprocess.run(
            [sys.executable, "-m", "levanter.cli.main", *command[1:], *short],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["two"]
