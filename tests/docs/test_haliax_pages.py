"""Every Python block of docs/haliax runs, and shows what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "haliax"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "cheatsheet.md")


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_page(path: Path, request: pytest.FixtureRequest) -> None:
    shown = []
    for one in pages.run(path):
        if not request.config.getoption("--update-golden"):
            stated = "" if one.stated is None else one.stated.text
            assert one.output == stated, f"{path.name}, the block:\n{one.code.text}"
        shown.append(one)
    if request.config.getoption("--update-golden"):
        path.write_text(pages.with_outputs(path.read_text(encoding="utf-8"), shown), encoding="utf-8")


def test_links_lead_to_files() -> None:
    links = [
        (path, link) for path in FOLDER.rglob("*.md") for link in re.findall(r"\]\(([\w./-]+)\)", path.read_text())
    ]
    assert len(links) > 10
    assert [(path.name, link) for path, link in links if not (path.parent / link).exists()] == []
