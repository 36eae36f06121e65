"""The answer of `levanter eval` for people: a table for each thing that was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def text(result: Mapping[str, Any]) -> str:
    """Every section of an answer (see `levanter.inference.evaluate`) as plain text."""
    parts = []
    if found := result.get("perplexity"):
        rows = [_perplexity_row(each["domain"], each) for each in found["domains"]]
        if len(rows) > 1:
            rows.append(_perplexity_row("all", found))
        parts.append(_table(("domain", "tokens", "bytes", "nats/token", "perplexity", "bits/byte"), rows))
    if found := result.get("multiple_choice"):
        rows = [
            (each["name"], f"{each['questions']:,}", f"{each['accuracy']:.1%}", f"{each['accuracy_per_byte']:.1%}")
            for each in found
        ]
        parts.append(_table(("multiple choice", "questions", "accuracy", "per byte"), rows))
    if found := result.get("tasks"):
        rows = [
            (task, measure.partition(",")[0], f"{value:.4f}")
            for task, measures in found.items()
            for measure, value in measures.items()
            if isinstance(value, float)
        ]
        parts.append(_table(("task", "measure", "value"), rows))
    return "\n".join(parts)


def _perplexity_row(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (f"{found['loss']:.4f}", f"{found['perplexity']:,.2f}", f"{found['bits_per_byte']:.4f}")
    return (name, f"{found['tokens']:,}", f"{found['bytes']:,}", *numbers)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as what is in them, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip() + "\n"

    return line(columns) + "─" * (sum(widths) + 2 * len(widths) - 2) + "\n" + "".join(map(line, rows))
