"""docs/plans.md runs and shows what it says; its links lead to files; its commands are there."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

from levanter.cli.main import levanter

PAGE = Path(__file__).parents[2] / "docs" / "plans.md"


@pages.as_traced
def test_the_page_shows_what_its_code_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    pages.held(PAGE, request.config.getoption("--update-golden"))


def test_its_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", PAGE.read_text(encoding="utf-8"))
    assert links and [link for link in links if not (PAGE.parent / link).exists()] == []


def test_its_options_are_those_of_the_commands() -> None:
    commands = [levanter.commands[name] for name in ("compile", "train")]
    known = {option for command in commands for param in command.params for option in param.opts}
    used = set(re.findall(r"(--[a-z][\w-]+)", PAGE.read_text(encoding="utf-8")))
    assert used <= known | {"--json"}
