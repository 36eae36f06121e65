"""partition, proof_by_values and elastic in docs run and show what they say; their links lead to files."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

PAGES = [Path(__file__).parents[2] / "docs" / f"{name}.md" for name in ("partition", "proof_by_values", "elastic")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_its_code_gives(page: Path, request: pytest.FixtureRequest) -> None:
    shown = []
    for one in pages.run(page):
        if not request.config.getoption("--update-golden"):
            assert one.output == ("" if one.stated is None else one.stated.text), f"the block:\n{one.code.text}"
        shown.append(one)
    if request.config.getoption("--update-golden"):
        page.write_text(pages.with_outputs(page.read_text(encoding="utf-8"), shown), encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
    assert links and [link for link in links if not (page.parent / link).exists()] == []
