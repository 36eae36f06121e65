"""docs/own_model.md and docs/generate.md run and show what they say."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["own_model", "generate"])
def test_a_page_shows_what_it_says(name: str, request: pytest.FixtureRequest) -> None:
    assert pages.held(DOCS / f"{name}.md", request.config.getoption("--update-golden"))
