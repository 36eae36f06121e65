"""What changed from one plan to another, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from passes.planner.attention import ATTENTION, GATHERED
from passes.planner.remat import shown
from passes.report.style import Printer
from passes.report.units import format_bytes, format_change, format_seconds, ordered, parts_of

_VERBS = {"compute": "computed", "storage": "stored"}
_LEFT_OUT = ("capacity", "on_chip")


def change_tables(changed: Mapping[str, Any], printer: Printer) -> None:
    """Prints every section of what `passes.report.changes` finds; one without a change is left out."""
    before, after = changed["names_of"]
    printer.heading(f"{before} → {after}", "the second beside the first")
    lines = [(key, f"{_shown(pair[0])} → {_shown(pair[1])}") for key, pair in changed["question"].items()]
    lines += [(each["name"], _moved(each)) for each in changed["names"]]
    if changed["stored"][0] != changed["stored"][1]:
        before, after = (", ".join(kinds) or "none" for kinds in changed["stored"])
        lines.append(("state", f"storage axes shard {after}, not {before}"))
    if changed["order"][0] != changed["order"][1]:
        before, after = (ordered(order) for order in changed["order"])
        lines.append(("order", f"{after}, not {before}"))
    if changed["remat"][0] != changed["remat"][1]:
        before, after = (shown(remat) for remat in changed["remat"])
        lines.append(("remat", f"{after}, not {before}"))
    if changed["microbatches"][0] != changed["microbatches"][1]:
        before, after = (count or "as the step has it" for count in changed["microbatches"])
        lines.append(("micro-batches", f"{after}, not {before}"))
    for key in ("moments", "gradients"):
        if changed[key][0] != changed[key][1]:
            before, after = (dtype or "as the step has it" for dtype in changed[key])
            lines.append((key, f"{after}, not {before}"))
    if changed["padding"][0] != changed["padding"][1]:
        before, after = (_shown(sizes) or "nothing" for sizes in changed["padding"])
        lines.append(("padding", f"{after}, not {before}"))
    if changed["network"][0] != changed["network"][1]:
        before, after = (parts_of(words) or "as usual" for words in changed["network"])
        lines.append(("network", f"{after}, not {before}"))
    if changed[ATTENTION][0] != changed[ATTENTION][1]:
        before, after = (way or GATHERED for way in changed[ATTENTION])
        lines.append((ATTENTION, f"{after}, not {before}"))
    if changed["regather"][0] != changed["regather"][1]:
        again = "gathered again in the backward pass"
        lines.append(("parameters", again if changed["regather"][1] else f"kept, and not {again}"))
    printer.rows(lines or [("every name is sharded as before",)])
    _numbers(changed, printer)
    _collectives(changed["collectives"], printer)


def _moved(row: Mapping[str, Any]) -> str:
    before, after = (" × ".join(axes) for axes in row["axes"])
    verb = _VERBS[row["role"]]
    if not after:
        return f"{verb} replicated, no longer over {before}"
    return f"{verb} over {after}, {f'not over {before}' if before else 'not replicated'}"


def _numbers(changed: Mapping[str, Any], printer: Printer) -> None:
    rows = [_row(key, pair, format_seconds) for key, pair in changed["time"].items()]
    rows += [
        _row(key, pair, format_bytes) for key, pair in changed["memory"].items() if key not in _LEFT_OUT and any(pair)
    ]
    tokens = changed["rate"]["tokens_per_second"]
    if None not in tokens:
        rows.append(_row("tokens per second", tokens, "{:,.0f}".format))
    mfu = changed["rate"]["mfu"]
    rows.append(_row("MFU", mfu, "{:.1%}".format))
    printer.heading("Predicted")
    printer.table(("what", ">before", ">after", ">change"), rows)


def _row(name: str, pair: Sequence[Any], shown: Any) -> tuple[str, ...]:
    return name, shown(pair[0]), shown(pair[1]), format_change(pair[1], pair[0])


def _collectives(rows: Sequence[Mapping[str, Any]], printer: Printer) -> None:
    gained = sum(max(0, row["count"][1] - row["count"][0]) for row in rows)
    lost = sum(max(0, row["count"][0] - row["count"][1]) for row in rows)
    printer.heading("Collectives", f"of one step: {gained:,} gained, {lost:,} lost")
    if not rows:
        printer.rows([("the same",)])
        return
    printer.table(
        ("", "=kind", "axis", "over", ">bytes", ">before", ">after", ">time", "phase", "=from"),
        [
            (
                "+" if row["count"][1] > row["count"][0] else "−",
                row["kind"],
                row["axis"] or "—",
                " × ".join(row["mesh_axes"]),
                format_bytes(row["bytes"]),
                f"{row['count'][0]:,} ×",
                f"{row['count'][1]:,} ×",
                _difference(row["seconds"]),
                row["phase"],
                row["source"] or "—",
            )
            for row in rows
        ],
    )


def _difference(pair: Sequence[float]) -> str:
    change = pair[1] - pair[0]
    return f"{'+' if change >= 0 else '−'}{format_seconds(abs(change))}"


def _shown(value: Any) -> str:
    return ",".join(f"{axis}={size}" for axis, size in value.items()) if hasattr(value, "items") else str(value)
