"""Prints the `verify` part of a report: what the plan predicted beside what the compiler made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from passes.report.style import Printer
from passes.report.units import format_bytes, format_percent, format_seconds

SOURCES_SHOWN = 12


def verify_tables(verify: Mapping[str, Any], printer: Printer) -> None:
    """Prints the table of collectives, the peaks, the surprises and the explained differences."""
    surprises: Sequence[str] = verify["surprises"]
    explained: Sequence[Mapping[str, str]] = verify.get("explained", ())
    topology = verify.get("topology")
    printer.heading("Verified" if topology is None else f"Verified for {topology}", _verdict(verify))
    if verify["collectives"]:
        columns = ("", "kind", "over", ">predicted", ">compiled", ">predicted bytes", ">compiled bytes")
        printer.table(columns, [line for row in verify["collectives"] for line in _lines(row)])
    else:
        printer.rows([("no collectives, predicted or compiled",)])
    printer.rows([(_peak(verify["peak"]),)])
    if "cycles" in verify:
        _cycles(verify["cycles"], printer)
    for surprise in surprises:
        printer.rows([("✗", surprise)])
    for item in explained:
        printer.rows([("·", item["what"]), ("", f"known: {item['reason']}")])


def _verdict(verify: Mapping[str, Any]) -> str:
    """`compiled = printed: 73 collectives, in kind, mesh axes, bytes and count`; or how many differences there are."""
    if surprises := verify["surprises"]:
        return f"{len(surprises)} surprise{'s' * (len(surprises) != 1)}"
    rows = verify["collectives"]
    if any(row["predicted_count"] != row["compiled_count"] for row in rows):
        return "compiled as the compiler is known to, see below"
    count = sum(row["compiled_count"] for row in rows)
    collectives = f"{count:,} collective{'s' * (count != 1)}"
    return f"compiled = printed: {collectives}, in kind, mesh axes, bytes and count"


def _cycles(cycles: Mapping[str, Any], printer: Printer) -> None:
    """Where the time of the operations goes, as the plan and as the compiler has it."""
    head = f"compiled {cycles['compiled_cycles']:,} cycles, predicted {format_seconds(cycles['predicted_seconds'])}"
    printer.rows([(f"operations of a step, collectives apart: {head}",)])
    sources = sorted(cycles["sources"], key=lambda row: -max(row["predicted_share"], row["compiled_share"]))
    lines = [
        (
            row["source"] or "(no source line)",
            format_seconds(row["predicted_seconds"]),
            f"{row['predicted_share']:.0%}",
            f"{row['compiled_cycles']:,}",
            f"{row['compiled_share']:.0%}",
        )
        for row in sources[:SOURCES_SHOWN]
    ]
    printer.table(("source", ">predicted", ">of all", ">compiled cycles", ">of all"), lines)
    if (more := len(sources) - SOURCES_SHOWN) > 0:
        printer.rows([(f"and {more} more source line{'s' * (more > 1)} (--json has all)",)])


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
