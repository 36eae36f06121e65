"""The commands of the README, read from it and run in its order, in one folder, as a newcomer does.

A run of hundreds of steps is made short by options appended to `levanter train`, the same ones each time, and an
evaluation of all held-out text by one that names a few words instead. One kind of line is left out: those whose comment
says that they fetch from the Hugging Face hub.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHORT = ["--trainer.num_train_steps", "2", "--trainer.eval_batches", "1", "--trainer.sample_tokens", "2"]
FEW = ["--domain", "few=few.txt"]
MY_MODEL = """
import jax, jax.numpy as jnp
from haliax import Axis, NamedArray

def step(weights, x):
    return jnp.tanh(x.array @ weights.array).mean()

def shape(**axes):
    return NamedArray(jax.ShapeDtypeStruct(tuple(axes.values()), jnp.float32), tuple(Axis(*a) for a in axes.items()))

step_arguments = shape(embed=4, mlp=8), shape(batch=8, embed=4)
"""
RULES = """
logical_axis_rules:
  - [activation_batch, [data, model]]
  - [vocab, [data, model]]
  - [embed, null]
  - [norm, null]
  - [length, null]
  - [mlp, null]
  - [qkv, null]
  - [heads, null]
  - [kv, null]
  - [layers, null]
"""


def commands(text: str) -> list[str]:
    """Every `levanter …` in the indented blocks, in order, without its comment; hub-needing ones left out."""
    found = []
    for line in re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE):
        command, _, comment = line.partition("#")
        if "Hugging Face hub" not in comment:
            found += [part.strip() for part in command.split("&&") if part.strip().startswith("levanter ")]
    return found


COMMANDS = commands((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_rule_that_leaves_commands_out() -> None:
    assert commands(
        "    pip install x && levanter a   # b\n    levanter c # from the Hugging Face hub\nlevanter d\n"
    ) == ["levanter a"]


def test_the_readme_shows_every_command() -> None:
    from levanter.cli.main import levanter

    assert {command.split()[1] for command in COMMANDS} == set(levanter.commands)
    assert sum(command.startswith("levanter train") for command in COMMANDS) >= 3


PLANNING = ("check", "compile", "config", "ir", "lint", "names", "plan", "verify")
"""Commands that no run is needed for."""


@pytest.mark.slow
def test_the_commands_that_plan_work_in_order_in_one_folder(tmp_path: Path) -> None:
    work_in_order(tmp_path, [command for command in COMMANDS if command.split()[1] in PLANNING])


@pytest.mark.slow
def test_the_commands_that_run_work_in_order_in_one_folder(tmp_path: Path) -> None:
    work_in_order(tmp_path, [command for command in COMMANDS if command.split()[1] not in PLANNING])
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "gpt2_nano",
        "gpt2_nano-learning_rate=1e-3",
        "gpt2_nano-mesh=2",
        "gpt2_nano-mesh=4x2",
        "own_model",
    ]


def shortened(arguments: list[str]) -> list[str]:
    """The options that make a command a short one."""
    if "train" in arguments[:5]:
        return SHORT
    return FEW if arguments[0] == "eval" else []


def work_in_order(tmp_path: Path, given: list[str]) -> None:
    assert len(given) > 10
    (tmp_path / "my_model.py").write_text(MY_MODEL)
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "few.txt").write_text("A few words to be read. " * 100)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for command in given:
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "levanter.cli.main", *arguments, *shortened(arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
