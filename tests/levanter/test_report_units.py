"""Numbers as people read them."""

from __future__ import annotations

import pytest

from levanter.compiler.report import format_bytes, format_change, format_percent, format_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (4, "4 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1023 * 1024, "1023 KiB"),
        (1024 * 1024 - 1, "1.00 MiB"),
        (12877824, "12.3 MiB"),
        (16 * 2**30, "16.0 GiB"),
        (10 * 2**40 - 1, "10.0 TiB"),
        (-2048, "-2.00 KiB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (2.5e-9, "2.50 ns"), (12.34e-6, "12.3 µs"), (9.996e-4, "1.00 ms"), (0.3, "300 ms"), (75.26, "75.3 s")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_shares_and_changes() -> None:
    assert format_percent(1, 3) == "33%"
    assert format_percent(0.004, 1) == "0.4%"
    assert format_percent(1, 0) == "?"
    assert format_change(1.14, 1.0) == "+14%"
    assert format_change(0.97, 1.0) == "-3.0%"
    assert format_change(3.2, 1.0) == "3.20×"
    assert format_change(1.0, 1.0) == "the same"
