"""Work that is done ahead: the same answers, errors where they belong, and no thread that stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from levanter.data.ahead import Ahead, Upcoming


def test_items_come_in_order_and_are_made_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    with Ahead(items(), 3, "test") as ahead:
        assert next(ahead) == 0
        deadline = time.time() + 10
        while len(made) < 5 and time.time() < deadline:  # one taken, three that wait, one in hand
            time.sleep(0.01)
        assert made == [0, 1, 2, 3, 4]
        assert list(ahead) == list(range(1, 50)) and list(ahead) == []


def test_an_error_comes_where_its_item_would_have() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    with Ahead(items(), 3, "test") as ahead:
        assert next(ahead) == 1
        for _ in range(2):
            with pytest.raises(KeyError, match="broken"):
                next(ahead)


def test_leaving_ends_the_thread() -> None:
    before = threading.active_count()
    with Ahead(iter(range(10**9)), 2, "test") as ahead:
        next(ahead)
    assert threading.active_count() == before


def test_the_next_steps_are_made_before_they_are_asked_for() -> None:
    made: dict[int, str] = {}

    def make(step: int, question: str) -> tuple[int, str]:
        made[step] = threading.current_thread().name
        time.sleep(0.02)
        return step, question

    upcoming = Upcoming(make)
    assert upcoming(7, "a") == (7, "a") and set(made) == {7}  # nobody knows yet that there is an order
    assert upcoming(8, "a") == (8, "a")
    time.sleep(0.2)
    assert set(made) == {7, 8, 9, 10} and made[9].startswith("batches")
    waited = upcoming.waited_seconds
    assert upcoming(9, "a") == (9, "a") and upcoming.waited_seconds - waited < 0.01
    assert [upcoming(step, "b") for step in (10, 3, 4, 5)] == [(10, "b"), (3, "b"), (4, "b"), (5, "b")]


def test_an_error_in_a_step_ahead_is_raised_when_it_is_asked_for() -> None:
    def make(step: int, question: None) -> int:
        if step == 3:
            raise ValueError("no step 3")
        return step

    upcoming = Upcoming(make)
    assert [upcoming(step, None) for step in (1, 2)] == [1, 2]
    with pytest.raises(ValueError, match="no step 3"):
        upcoming(3, None)
    assert upcoming(4, None) == 4
