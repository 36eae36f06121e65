"""A report: what `levanter compile` says of a plan, as data and as text."""

import io
from typing import Any

from rich.console import Console

from passes.report.style import WIDTH_OF_A_FILE, Printer
from passes.report.tables import tables


class Report(dict[str, Any]):
    """The keys of docs/compile.md, as JSON can hold them. Its text, also in a notebook, is the tables."""

    def __str__(self) -> str:
        file = io.StringIO()
        plain = Console(file=file, width=WIDTH_OF_A_FILE, force_terminal=False, force_jupyter=False, color_system=None)
        tables(self, Printer(plain))
        return file.getvalue().strip("\n")

    def __repr__(self) -> str:
        return str(self)
