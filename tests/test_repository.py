"""The repository's own promises: what the README says, continuous integration does, and so do the hooks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
TEST_COMMAND = 'pip install -e ".[test]" && pytest -n auto'


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_ci_runs_exactly_the_test_command_of_the_readme() -> None:
    assert re.search(rf"^    {re.escape(TEST_COMMAND)}(?: +#|$)", read("README.md"), re.MULTILINE)
    assert f"({TEST_COMMAND})" in read(".ci/run").splitlines()


def test_the_hooks_run_what_ci_runs() -> None:
    hooks = [
        hook["entry"] for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]
    ]
    commands = [command.strip("()").split(" && ")[-1] for command in read(".ci/run").splitlines()]
    checks = ["ruff format --check", "ruff check", "pyright", "pytest -n auto"]
    assert hooks == checks
    assert set(checks) <= set(commands)


def test_the_readme_has_a_line_for_every_folder() -> None:
    named = set(re.findall(r"^\| `(\.?\w+)/` \|", read("README.md"), re.MULTILINE))
    folders = {"haliax", "ir", "passes", "levanter", "config", "tests", "benchmarks", "docs", "examples", ".ci"}
    assert named == folders
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_the_overview_points_at_files_that_exist() -> None:
    table = read("docs/overview.md").partition("## Where to look")[2]
    paths = re.findall(r"`([\w/]+(?:/|\.py))`", table)
    assert paths and [path for path in paths if not (ROOT / path).exists()] == []


def test_the_wheel_holds_the_four_packages_and_the_configs() -> None:
    wheel = tomllib.loads(read("pyproject.toml"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {
        "packages": ["haliax", "ir", "passes", "levanter"],
        "force-include": {"config": "levanter/_configs"},
    }
