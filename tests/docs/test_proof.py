"""docs/proof.md: its graphs are proved and refuted as it says, and its table is what the rules say of themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pages
import pytest

import ir
import passes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")


def test_the_table_of_rules_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, "docs/build_proof.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_block_proves_and_the_spoiled_one_is_refuted() -> None:
    (right, wrong), (proof, refutation) = (pages.fenced(PAGE, language) for language in ("ir", "text"))
    assert str(passes.prove(ir.verify(ir.parse(right.text)), mesh="2x2")) == proof.text.rstrip("\n")
    with pytest.raises(passes.NotProved) as caught:
        passes.prove(ir.verify(ir.parse(wrong.text)), mesh="2x2")
    assert str(caught.value) == refutation.text.rstrip("\n")
