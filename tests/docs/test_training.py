"""Every configuration of docs/training.md is read, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pages

from levanter.config import loads
from levanter.optim.config import LR_SCHEDULES
from levanter.registry import OPTIMIZERS

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_its_configurations_are_read() -> None:
    blocks = [loads(block.text) for block in pages.fenced(PAGE, "yaml")]
    assert [block.optimizer.lr_schedule for block in blocks] == ["wsd", "cosine", "cosine", "cosine"]
    assert len(blocks[1].optimizer.groups) == 3 and blocks[2].adapter is not None
    assert blocks[3].data.paths == ["chats/*.jsonl"]


def test_its_tables_have_every_optimizer_and_schedule() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named - {"lr_schedule", "params", "compute", "output"} == {*OPTIMIZERS, *LR_SCHEDULES}
