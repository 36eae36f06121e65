"""Prints the `verify` part of a report: what the plan predicted beside what the compiler made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from passes.report.style import Printer
from passes.report.units import format_bytes, format_percent


def verify_tables(verify: Mapping[str, Any], printer: Printer) -> None:
    """Prints the table of collectives, the peaks, the surprises and the explained differences."""
    surprises: Sequence[str] = verify["surprises"]
    explained: Sequence[Mapping[str, str]] = verify.get("explained", ())
    verdict = (
        f"{len(surprises)} surprise{'s' * (len(surprises) != 1)}"
        if surprises
        else "the compiler made what the plan predicts"
    )
    printer.heading("Verified", verdict)
    if verify["collectives"]:
        columns = ("", "kind", "over", ">predicted", ">compiled", ">predicted bytes", ">compiled bytes")
        printer.table(columns, [line for row in verify["collectives"] for line in _lines(row)])
    else:
        printer.rows([("no collectives, predicted or compiled",)])
    printer.rows([(_peak(verify["peak"]),)])
    for surprise in surprises:
        printer.rows([("✗", surprise)])
    for item in explained:
        printer.rows([("·", item["what"]), ("", f"known: {item['reason']}")])


def _lines(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row, and below it the sizes that differ."""
    different = [size for size in row.get("sizes", ()) if size["predicted_count"] != size["compiled_count"]]
    agrees = not different and row["predicted_count"] == row["compiled_count"]
    over = " × ".join(row["mesh_axes"]) or "(no mesh axis)"
    counts = (f"{row['predicted_count']:,} ×", f"{row['compiled_count']:,} ×")
    both = (_exact(row["predicted_bytes"]), _exact(row["compiled_bytes"]))
    lines: list[tuple[str, ...]] = [("✓" if agrees else "✗", row["kind"], over, *counts, *both)]
    for size in different:
        each = f"  of {_exact(size['bytes'])}"
        predicted, compiled = (size[f"{side}_count"] for side in ("predicted", "compiled"))
        totals = (_exact(predicted * size["bytes"]), _exact(compiled * size["bytes"]))
        lines.append(("", each, "", f"{predicted:,} ×", f"{compiled:,} ×", *totals))
    return lines


def _peak(peak: Mapping[str, int]) -> str:
    predicted, compiled = peak["predicted"], peak["compiled"]
    ratio = f" (predicted is {format_percent(predicted, compiled)} of it)" if predicted and compiled else ""
    return f"peak per device: predicted {format_bytes(predicted)}, compiled {format_bytes(compiled)}{ratio}"


def _exact(count: int) -> str:
    """Bytes to the last one: agreement to the byte is the point."""
    return f"{count:,} B"
