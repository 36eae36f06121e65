"""docs/own_model.md and docs/generate.md run and show what they say."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["own_model", "generate"])
def test_a_page_shows_what_it_says(name: str, request: pytest.FixtureRequest) -> None:
    page, shown = DOCS / f"{name}.md", []
    for one in pages.run(page):
        if not request.config.getoption("--update-golden"):
            assert one.output == ("" if one.stated is None else one.stated.text), f"the block:\n{one.code.text}"
        shown.append(one)
    assert shown
    if request.config.getoption("--update-golden"):
        page.write_text(pages.with_outputs(page.read_text(encoding="utf-8"), shown), encoding="utf-8")
