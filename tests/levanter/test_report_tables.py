"""The tables of `levanter compile`: the same report, on paper, on a terminal, and in ASCII."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from levanter.compiler.report import compile_tables

SAMPLE = Path(__file__).parents[1] / "golden" / "compile_report.json"


@pytest.fixture
def report() -> dict[str, Any]:
    return json.loads(SAMPLE.read_text())


def printed(report: dict[str, Any], **options: Any) -> str:
    file = io.StringIO()
    compile_tables(report, Console(file=file, **options))
    return file.getvalue()


def test_golden(report: dict[str, Any], golden: Callable[[str, str], None]) -> None:
    golden(printed(report, width=120), "compile_tables.txt")


def test_a_file_gets_plain_wide_text(report: dict[str, Any]) -> None:
    text = printed(report, width=80)
    assert "\x1b" not in text
    assert text == printed(report, width=120)
    assert all(line == line.rstrip() and len(line) <= 120 for line in text.splitlines())


def test_a_narrow_terminal_breaks_no_path_and_no_number(report: dict[str, Any]) -> None:
    text = printed(report, width=100, force_terminal=True, color_system=None)
    assert all(len(line) <= 100 for line in text.splitlines())
    for whole in ("model.embeddings.token_embeddings.weight", "12.3 MiB", "gpt2.py:120", "vocab=50304", "2,162,688 B"):
        assert whole in text


def test_the_console_keeps_its_width(report: dict[str, Any]) -> None:
    console = Console(file=io.StringIO(), width=70)
    compile_tables(report, console)
    assert console.width == 70


def test_ascii_where_nothing_else_can_be_written(report: dict[str, Any]) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    compile_tables(report, Console(file=file))
    file.flush()
    assert b"124 us" in raw.getvalue() and b"data x model" in raw.getvalue()


def test_the_keys_of_the_contract_are_enough(report: dict[str, Any]) -> None:
    """One device, nothing to send, no runner-up, none of the extra keys."""
    for key in ("axes", "devices", "batch_size", "seq_len", "notes", "runner_up", "verify"):
        del report[key]
    report |= {"mesh": {}, "plan": {"compute": {}, "storage": {}}, "collectives": []}
    text = printed(report)
    assert "gpt2_nano on 1 × v5e  mesh one device" in text
    assert "no axis is split" in text
    assert "none: nothing has to be sent between devices" in text
    assert "no other plan is possible" in text
    assert "Verified" not in text


def test_a_plan_that_does_not_fit_says_so(report: dict[str, Any]) -> None:
    report["memory"]["capacity"] = report["memory"]["peak"] // 2
    assert "200% of 18.2 MiB: DOES NOT FIT" in printed(report)


def test_agreement_is_said_in_one_line(report: dict[str, Any]) -> None:
    row = report["verify"]["collectives"][0]
    report["verify"] |= {"collectives": [row], "surprises": [], "explained": []}
    assert "Verified  compiled = printed: " in printed(report)


def test_cycles_stand_beside_the_predicted_times(report: dict[str, Any]) -> None:
    def row(source: str | None, seconds: float, cycles: int) -> dict[str, Any]:
        shares = {"predicted_share": seconds / 4e-6, "compiled_share": cycles / 400}
        return {"source": source, "predicted_seconds": seconds, "compiled_cycles": cycles, **shares}

    rows = [row("model.py:3", 3e-6, 100), row(None, 0.0, 300), *(row(f"model.py:{i}", 1e-7, 0) for i in range(10, 20))]
    cycles = {"predicted_seconds": 4e-6, "compiled_cycles": 400, "uncounted": 0, "sources": rows}
    report["verify"] |= {"topology": "v5e:4x2", "surprises": [], "cycles": cycles}
    text = printed(report)
    assert "Verified for v5e:4x2  compiled as the compiler is known to, see below" in text
    assert "operations of a step, collectives apart: compiled 400 cycles, predicted 4.00 µs" in text
    assert "model.py:3 3.00 µs 75% 100 25%" in " ".join(text.split())
    assert "(no source line) 0 s 0% 300 75%" in " ".join(text.split())
    assert "more source" not in text
    rows.append(row("model.py:30", 1e-7, 0))
    assert "and 1 more source line (--json has all)" in printed(report)
