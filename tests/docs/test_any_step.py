"""docs/any_step.md runs and shows what it says; its links lead to files."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "any_step.md"


def test_the_page_of_any_step(request: pytest.FixtureRequest) -> None:
    pages.held(PAGE, request.config.getoption("--update-golden"))


def test_its_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([\w./-]+)\)", PAGE.read_text(encoding="utf-8"))
    assert links and [link for link in links if not (PAGE.parent / link).exists()] == []
