"""Python searches for cycles seldom while a command starts, and as before once it trains."""

from __future__ import annotations

import gc

from levanter.runtime.garbage import SELDOM, collect_as_usual, collect_seldom


def test_what_a_start_leaves_is_not_searched_again() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    collect_as_usual()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, frozen)  # of a process that is not ours alone
    try:
        collect_seldom()
        assert gc.get_threshold()[0] == SELDOM
        collect_as_usual()
        assert gc.get_threshold() == before
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
