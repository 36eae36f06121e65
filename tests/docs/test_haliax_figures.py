"""The figures of docs/haliax/migrating.md are those of the newest measurement in benchmarks/results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "haliax" / "migrating.md"
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("named_overhead-*.json"))
TABLE = re.compile(r"(?<=^\| what \| there \| here \|\n\|---\|---\|---\|\n)(?:\|.*\n)*", re.MULTILINE)


def span(section: dict[str, Any]) -> str:
    """The least and the greatest ratio of a section."""
    ratios = [entry["ratio"] for entry in section.values()]
    return f"{min(ratios):.2f}–{max(ratios):.2f}"


def rows(measured: dict[str, Any]) -> str:
    figures = (
        ("tracing and lowering attention, a block, and a stack of 12", "1.2–1.6", span(measured["tracing"])),
        ("an operation at small sizes, mean of 17", "2.8", f"{measured['eager']['geometric mean']['ratio']:.2f}"),
        ("calling a compiled function", "24–28", f"{measured['calls']['one array to one']['ratio']:.2f}"),
        ("the same, of 100 named arrays", "160", f"{measured['calls']['100 arrays to 100']['ratio']:.2f}"),
        ("attention, compiled", "2.3–2.5", f"{measured['compiled']['attention of the seed']['ratio']:.2f}"),
    )
    return "".join(f"| {' | '.join(row)} |\n" for row in figures)


@pytest.mark.skipif(not RESULTS, reason="nothing was measured yet")
def test_figures(request: pytest.FixtureRequest) -> None:
    page = PAGE.read_text(encoding="utf-8")
    expected = rows(json.loads(RESULTS[-1].read_text(encoding="utf-8")))
    if request.config.getoption("--update-golden"):
        page = TABLE.sub(expected, page)
        PAGE.write_text(page, encoding="utf-8")
    assert TABLE.search(page)[0] == expected, "pytest --update-golden tests/docs writes the newest figures"
