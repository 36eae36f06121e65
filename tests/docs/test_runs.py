"""docs/runs.md runs and shows what it says; its fields are there."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

from levanter.config import dump, load

PAGE = Path(__file__).parents[2] / "docs" / "runs.md"


def test_the_page_of_runs(request: pytest.FixtureRequest) -> None:
    pages.held(PAGE, request.config.getoption("--update-golden"))


def test_the_fields_that_it_names_are_there() -> None:
    known = dump(load("gpt2_nano"))
    text = PAGE.read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`(?:--)?(?:trainer|optimizer)\.(\w+)[` ]", text)}
    assert len(named) > 8 and [name for name in named if f"  {name}:" not in known] == []
