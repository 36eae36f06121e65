"""docs/measuring.md runs and shows what it says, and names every key of a record."""

from __future__ import annotations

import re
from pathlib import Path

import pages

from levanter.config import loads
from levanter.trackers.records import TIMED

PAGE = Path(__file__).parents[2] / "docs" / "measuring.md"


def test_its_program_shows_what_it_says() -> None:
    pages.held(PAGE, update=False)


def test_its_table_has_every_key_that_depends_on_the_clock() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == TIMED | {"step", "loss", "heldout_loss", "grad_norm", "learning_rate"}


def test_its_configuration_is_read() -> None:
    (block,) = pages.fenced(PAGE.read_text(encoding="utf-8"), "yaml")
    assert loads(block.text).trainer.watch.every == 100
