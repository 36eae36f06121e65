"""Prints the `values` part of a report: whether the step gives the same values on its mesh as on one device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passes.report.style import Printer
from passes.values import Values


def values_text(values: Mapping[str, Any]) -> str:
    """How many outputs are equal, and below it what is not, a line each."""
    return str(Values.of(values))


def values_table(values: Mapping[str, Any], printer: Printer) -> None:
    """Prints how many outputs are equal to the bit, which are not, and what was not covered."""
    first, *rest = values_text(values).split("\n")
    printer.heading(first)
    if rest:
        printer.rows([(line.strip(),) for line in rest])
