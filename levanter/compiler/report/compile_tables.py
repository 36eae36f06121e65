"""Prints the report of `levanter compile` for people: the tables of a plan, and what the compiler says to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from levanter.compiler.report.values_table import values_table
from levanter.compiler.report.verify_tables import verify_tables
from passes.report.change_tables import change_tables
from passes.report.style import Printer, readable_width
from passes.report.tables import tables


def compile_tables(report: Mapping[str, Any], console: Console) -> None:
    """Prints every section of a report. Into a file it is 120 columns wide, plain text.

    Args:
        report: the keys of docs/compile.md; `axes`, `devices`, `batch_size`, `seq_len` and `notes` may be absent, and
            leave their part out.
        console: where to print.
    """
    with readable_width(console):
        printer = Printer(console)
        tables(report, printer)
        if report.get("verify"):
            verify_tables(report["verify"], printer)
        if report.get("values"):
            values_table(report["values"], printer)


def changed_tables(changed: Mapping[str, Any], console: Console) -> None:
    """Prints what changes from one plan to another (`levanter.compiler.plan_changes.compared`)."""
    with readable_width(console):
        change_tables(changed, Printer(console))
