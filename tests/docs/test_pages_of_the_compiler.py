"""partition, proof_by_values and elastic in docs run and show what they say; their links lead to files."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

PAGES = [Path(__file__).parents[2] / "docs" / f"{name}.md" for name in ("partition", "proof_by_values", "elastic")]


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem, marks=[pages.as_traced] * (page.stem == "partition")) for page in PAGES]
)
def test_a_page_shows_what_its_code_gives(page: Path, request: pytest.FixtureRequest) -> None:
    pages.held(page, request.config.getoption("--update-golden"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
    assert links and [link for link in links if not (page.parent / link).exists()] == []
