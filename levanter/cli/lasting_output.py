"""Output that a run outlives: where nobody reads it any more, or it cannot be written, the run goes on without it.

A pipe ends with its reader (`levanter train | tee log`), a terminal with its window, and a log may fill its disk. None
of that is worth a step: what a run makes is in its directory.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from levanter.cli import errors


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """While the block runs, what fails to be written to stdout or stderr goes nowhere from there on, which a line on
    stderr tells once."""
    out, err = sys.stdout, sys.stderr
    told = _Lasting(err)
    lasting: tuple[Any, Any] = _Lasting(out, told), told
    try:
        sys.stdout, sys.stderr = lasting
        yield
    finally:
        sys.stdout, sys.stderr = out, err


class _Lasting:
    """A stream whose writes do not fail; all else of it is the stream's own."""

    def __init__(self, stream: TextIO, told: _Lasting | None = None) -> None:
        self._stream, self._told = stream, told

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lost(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        # The file itself, not just this object: what is still buffered is written once more when Python ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if self._told is not None:
            told, self._told = self._told, None
            told.write(f"{errors.output_lost(error)}\n")
            told.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
