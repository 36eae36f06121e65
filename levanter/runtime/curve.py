"""A curve in a terminal, drawn with braille characters: each has 2 × 4 dots."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_EMPTY = 0x2800


def curve(xs: Sequence[float], ys: Sequence[float], width: int = 64, height: int = 10) -> list[str]:
    """The lines of a chart of ys over xs, with its labels; none where nothing can be drawn.

    Where several points share a column of dots, their mean is drawn; columns without a point are bridged.

    Args:
        xs: ascending.
        ys: what is not finite is left out.
        width, height: of the chart, in characters, without its labels.
    """
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    if not points:
        return []
    columns = _columns(points, 2 * width)
    known = [y for y in columns if y is not None]
    low, high = min(known), max(known)
    rows = _rows(columns, low, high, 4 * height)
    cells = [[_EMPTY] * width for _ in range(height)]
    for column, (first, last) in enumerate(rows):
        for row in range(first, last + 1):
            cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"] if height > 1 else [f"{high:.4g}"]
    indent = max(map(len, labels))
    lines = [f"{label:>{indent}} ┤{''.join(map(chr, line))}" for label, line in zip(labels, cells, strict=True)]
    start, end = f"{points[0][0]:,.6g}", f"{points[-1][0]:,.6g}"
    return [*(line.rstrip("⠀") for line in lines), f"{'':{indent}}  {start} {end:>{max(width - len(start) - 1, 1)}}"]


def _columns(points: Sequence[tuple[float, float]], count: int) -> list[float | None]:
    """The mean of the points in each column of dots; None where there is none."""
    start, end = points[0][0], points[-1][0]
    found: list[list[float]] = [[] for _ in range(count)]
    for x, y in points:
        found[0 if end == start else min(count - 1, int((x - start) / (end - start) * (count - 1)))].append(y)
    return [math.fsum(each) / len(each) if each else None for each in found]


def _rows(columns: Sequence[float | None], low: float, high: float, count: int) -> list[tuple[int, int]]:
    """The dots of each column, from the top one to the lowest one, so that neighbours touch."""
    known = [(at, y) for at, y in enumerate(columns) if y is not None]
    heights = [0.5 if high == low else (high - y) / (high - low) for _, y in known]
    dots: list[tuple[int, int]] = []
    for at in range(known[-1][0] + 1):
        here = round(_between(at, [at for at, _ in known], heights) * (count - 1))
        before = dots[-1] if dots else (here, here)
        nearest = min(max(here, before[0]), before[1])
        first, last = sorted((here, here if abs(nearest - here) <= 1 else nearest + (1 if here > nearest else -1)))
        dots.append((first, last))
    return dots


def _between(at: int, places: Sequence[int], heights: Sequence[float]) -> float:
    right = bisect.bisect_left(places, at)
    if right == 0 or places[right] == at:
        return heights[right]
    left = right - 1
    share = (at - places[left]) / (places[right] - places[left])
    return heights[left] + share * (heights[right] - heights[left])
