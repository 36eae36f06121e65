"""A bar for people who wait while text is tokenized."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar on stderr, where that is a terminal, from the first chunk on that is tokenized.

    Args:
        source: what is read.
        size: its bytes, where they are known.
    """

    def __init__(self, source: str, size: int | None) -> None:
        self._shows = sys.stderr.isatty()
        self._source, self._size = source, size
        self._read = 0
        self._lock = threading.Lock()
        self._bar: Bar | None = None
        self._started = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def read(self, size: int) -> None:
        """So many more bytes are read."""
        with self._lock:
            self._read += size

    def starts_work(self) -> bool:
        """Something is tokenized; whether it is the first."""
        first, self._started = not self._started, True
        if first and self._shows:
            self._bar = Bar(
                TextColumn("{task.description}"),
                *(BarColumn(), DownloadColumn(), TimeElapsedColumn(), TimeRemainingColumn()),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("tokenizing", total=self._size)
        return first

    def tokenized(self, characters: int) -> None:
        """A chunk is done: all that is read but for what waits."""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._read)
