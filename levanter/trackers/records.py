"""The records of a run, `metrics.jsonl`, as they are read: by `levanter status`, `levanter plot`, and whoever compares
two runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TIMED = frozenset(
    [
        *("tokens_per_second", "flops_per_second", "mfu", "step_seconds", "data_wait_seconds"),
        *("checkpoint_stall_seconds", "goodput", "run_seconds", "time"),
    ]
)
"""What depends on the clock. All else in a record is the same in two runs with the same bits."""

_NO_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of the file at `path` in their order; none where there is no such file. Lines that are no records
    are left out: the last one may be half written just now."""
    try:
        file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by the `with` below)
    except OSError:
        return
    with file:
        for line in file:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict) and isinstance(found.get("step"), int):
                yield {
                    key: _NO_NUMBERS.get(value, value) if isinstance(value, str) else value
                    for key, value in found.items()
                }


def untimed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what depends on the clock."""
    return {key: value for key, value in record.items() if key not in TIMED}


def _number(value: Any) -> Any:
    return _NO_NUMBERS.get(value, value) if isinstance(value, str) else value
