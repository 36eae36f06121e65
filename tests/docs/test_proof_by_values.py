"""docs/proof_by_values.md runs and shows what it says; its links lead to files."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "proof_by_values.md"


def test_the_page_of_values(request: pytest.FixtureRequest) -> None:
    shown = []
    for one in pages.run(PAGE):
        if not request.config.getoption("--update-golden"):
            assert one.output == ("" if one.stated is None else one.stated.text), f"the block:\n{one.code.text}"
        shown.append(one)
    if request.config.getoption("--update-golden"):
        PAGE.write_text(pages.with_outputs(PAGE.read_text(encoding="utf-8"), shown), encoding="utf-8")


def test_its_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([\w./-]+)\)", PAGE.read_text(encoding="utf-8"))
    assert links and [link for link in links if not (PAGE.parent / link).exists()] == []
