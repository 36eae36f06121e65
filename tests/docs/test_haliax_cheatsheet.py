"""Both sides of every row of the cheat sheet are code, and give the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pages
import pytest

import haliax as hax

PAGE = (Path(__file__).parents[2] / "docs" / "haliax" / "cheatsheet.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.+)` \| `(.+)` \|$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for block in pages.fenced(PAGE, "python"):
        exec(block.text, found)
    return found


def leaves(value: Any) -> Iterator[Any]:
    for leaf in jax.tree.leaves(value, is_leaf=lambda x: isinstance(x, hax.NamedArray)):
        yield leaf.array if isinstance(leaf, hax.NamedArray) else leaf


@pytest.mark.parametrize(("plain", "named"), ROWS, ids=[named for _, named in ROWS])
def test_row(plain: str, named: str, names: dict[str, Any]) -> None:
    expected, found = list(leaves(eval(plain, names))), list(leaves(eval(named, names)))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if not isinstance(other, jax.Array):
            assert one == other
            continue
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert one.sharding.is_equivalent_to(other.sharding, one.ndim)
        np.testing.assert_allclose(np.asarray(one, np.float64), np.asarray(other, np.float64), rtol=2e-5, atol=1e-6)


def test_every_row_is_read() -> None:
    assert len(ROWS) == len(re.findall(r"^\| `", PAGE, re.MULTILINE))
