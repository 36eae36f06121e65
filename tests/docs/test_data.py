"""docs/data.md runs, its configurations are read, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pages
import pytest

from levanter.cli.data import data as group
from levanter.config import loads
from levanter.data.packing import PACKINGS
from levanter.registry import SOURCES

PATH = Path(__file__).parents[2] / "docs" / "data.md"
PAGE = PATH.read_text(encoding="utf-8")


def test_the_page_of_data(request: pytest.FixtureRequest) -> None:
    pages.held(PATH, request.config.getoption("--update-golden"))


def test_its_configurations_are_read() -> None:
    rows, mixture = (loads(block.text).data for block in pages.fenced(PAGE, "yaml"))
    assert rows.bad_rows == "skip" and list(mixture.sources) == ["books", "code", "chat"]


def test_its_tables_have_every_source_and_packing() -> None:
    first = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert first == [*("sotu", "text", "jsonl", "parquet", "hf", "chat", "mixture"), *PACKINGS]
    assert set(first[:7]) == set(SOURCES)


def test_its_commands_are_there() -> None:
    named = set(re.findall(r"^levanter data (\w+)", PAGE, re.MULTILINE))
    assert isinstance(group, click.Group) and named == set(group.commands)
