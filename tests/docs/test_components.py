"""docs/components.md runs, shows what it says, and its example of trackers is read."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest

from levanter.config import loads
from levanter.registry import MODELS, OPTIMIZERS, SOURCES

PAGE = Path(__file__).parents[2] / "docs" / "components.md"


def test_the_page_of_components(request: pytest.FixtureRequest) -> None:
    shown = []
    try:
        for one in pages.run(PAGE):
            if not request.config.getoption("--update-golden"):
                assert one.output == ("" if one.stated is None else one.stated.text), f"the block:\n{one.code.text}"
            shown.append(one)
    finally:
        for kind, name in ((MODELS, "bigram"), (OPTIMIZERS, "momentum"), (SOURCES, "counting")):
            if name in kind:
                kind.remove(name)
    if request.config.getoption("--update-golden"):
        PAGE.write_text(pages.with_outputs(PAGE.read_text(encoding="utf-8"), shown), encoding="utf-8")


def test_its_example_of_trackers_is_read() -> None:
    (example,) = pages.fenced(PAGE.read_text(encoding="utf-8"), "yaml")
    trackers = loads(example.text).trackers
    assert (trackers.console.log_every, trackers.wandb.project, trackers.wandb.mode) == (50, "letters", "offline")
    assert trackers.tensorboard.on and (trackers.trackio.on, trackers.trackio.project) == (True, "letters")
