"""The look that all tables share, on a terminal, in a file, and where only ASCII can be written."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH_OF_A_FILE = 120
_ASCII = str.maketrans({"µ": "u", "×": "x", "→": ">", "−": "-", "·": "-", "—": "-", "█": "#", "✓": "ok", "✗": "!!"})


class Printer:
    """Writes headings, lines and tables to a console."""

    def __init__(self, console: Console):
        self._console = console
        self._ascii = console.options.ascii_only

    def heading(self, text: str, detail: str = "") -> None:
        """A section's title, after an empty line, with a quieter remark behind it."""
        title = self._text(text, "bold") + self._text(f"  {detail}" if detail else "", "dim")
        self._print(Group(Text(), title))

    def rows(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Columns without a frame, indented; what is too long wraps inside its column."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column()
        for _ in rows[0]:
            grid.add_column(overflow="fold")
        for row in rows:
            grid.add_row("", *(self._text(cell) for cell in row))
        self._print(grid)

    def table(self, columns: Sequence[str], rows: Sequence[tuple[str, ...]], total: tuple[str, ...] = ()) -> None:
        """A table with a ruled head, and a total at its foot.

        A column named `>name` holds numbers (to the right, never broken), `=name` holds words or paths (never broken
        either); all others wrap where the console is too narrow.
        """
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        table.add_column(width=0)
        for name in columns:
            table.add_column(
                self._text(name.lstrip(">=")),
                justify="right" if name.startswith(">") else "left",
                no_wrap=name.startswith((">", "=")),
                overflow="fold",
            )
        for row in rows:
            table.add_row("", *(self._text(cell) for cell in row))
        if total:
            table.add_row("", *(self._text(cell) for cell in total), style="bold")
        self._print(table)

    def _text(self, text: str, style: str = "") -> Text:
        return Text(text.translate(_ASCII) if self._ascii else text, style)

    def _print(self, renderable: RenderableType) -> None:
        """Prints; a file gets no spaces at the ends of its lines."""
        if self._console.is_terminal:
            self._console.print(renderable)
            return
        with self._console.capture() as captured:
            self._console.print(renderable)
        self._console.out("\n".join(line.rstrip() for line in captured.get().split("\n")), end="", highlight=False)


@contextmanager
def readable_width(console: Console) -> Generator[Console, None, None]:
    """A file has no width of its own, and the 80 columns rich assumes would fold paths: it gets 120."""
    width = console.width
    if not console.is_terminal and width < WIDTH_OF_A_FILE:
        console.width = WIDTH_OF_A_FILE
    try:
        yield console
    finally:
        console.width = width
