"""The one place where the passes need what JAX does not export."""

from collections.abc import Sequence
from itertools import islice
from types import CodeType
from typing import Any


def columns(source_info: Any, path: str, line: int) -> tuple[int, int] | None:
    """Where on a line of a file the expression behind an equation stands: from a column, up to another.

    JAX exports neither the frames of an equation nor their columns; the code objects behind them know both. None where
    the traceback does not tell, or the expression goes over the end of the line.
    """
    traceback = getattr(source_info, "traceback", None)
    if traceback is None or not hasattr(traceback, "raw_frames"):
        return None
    frames: tuple[Sequence[CodeType], Sequence[int]] = traceback.raw_frames()
    for code, offset in zip(*frames, strict=False):
        if code.co_filename != path or offset < 0:
            continue
        nowhere = (None, None, None, None)
        first, last, start, end = next(islice(code.co_positions(), offset // 2, None), nowhere)
        if first == last == line and start is not None and end is not None:
            return start, end
    return None
