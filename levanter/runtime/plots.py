"""Curves of one or several runs in one file: HTML that needs nothing else, or an image."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from levanter.optional import require
from levanter.runtime import errors
from levanter.runtime.run_directory import RunDirectory
from levanter.trackers.records import read

IMAGES = (".png", ".svg", ".pdf")
USUAL = ("loss", "heldout_loss", "grad_norm", "learning_rate", "tokens_per_second")
"""What is drawn where nobody says: those of them that the runs have."""
AXES = {"step": "steps", "hours": "hours since the first start"}
"""What a curve can be drawn over, with the label."""
_SPARSE = 25


@dataclass(frozen=True)
class Curve:
    """One metric of one run."""

    run: str
    xs: list[float]
    ys: list[float]

    @property
    def is_sparse(self) -> bool:
        """Whether its points are to be seen: of a single one there is no line."""
        return len(self.xs) <= _SPARSE


def curves(paths: Sequence[Path], metrics: Sequence[str], over: str, smooth: int) -> dict[str, list[Curve]]:
    """The curves of each metric, in the order of `metrics`.

    Args:
        metrics: patterns of keys of the records; none are those of `USUAL`.
        over: a key of `AXES`.
        smooth: records whose mean each point is, itself and those before it.

    Raises:
        UserError: a path holds no run, or none of the runs has a metric.
    """
    found: dict[str, list[Curve]] = {}
    runs = {name: _records(path) for name, path in zip(_names(paths), paths, strict=True)}
    keys = list(dict.fromkeys(key for records in runs.values() for each in records for key in each if key != "step"))
    for pattern in metrics:
        if not any(fnmatchcase(key, pattern) for key in keys):
            raise errors.no_metric(pattern, keys)
    for wanted in metrics or USUAL:
        for key in (key for key in keys if fnmatchcase(key, wanted)):
            drawn = [_curve(name, records, key, over, smooth) for name, records in runs.items()]
            found.setdefault(key, [each for each in drawn if each.xs])
    if not found:
        raise errors.nothing_to_plot(paths)
    return found


def write(found: Mapping[str, Sequence[Curve]], path: Path, over: str) -> None:
    """Draw all curves, a chart for each metric, into the file `path`, whose ending says what it is.

    Raises:
        UserError: it is neither HTML nor an image, it cannot be written, or what draws it is not installed.
    """
    ending = path.suffix.lower()
    if ending not in (".html", *IMAGES):
        raise errors.no_picture(path, (".html", *IMAGES))
    try:
        if ending == ".html":
            path.write_text(_html(found, over), encoding="utf-8")
        else:
            _image(found, path, over)
    except OSError as error:
        raise errors.cannot_write_picture(path, error.strerror or str(error)) from error


def _records(path: Path) -> list[dict[str, Any]]:
    if not RunDirectory(path).config_path.is_file():
        raise errors.no_run(path)
    return list(read(RunDirectory(path).metrics_path))


def _names(paths: Sequence[Path]) -> list[str]:
    """What the runs are called: the last part of their paths, more of it where two share that."""
    last = [path.name or str(path) for path in paths]
    return [name if last.count(name) == 1 else str(path) for name, path in zip(last, paths, strict=True)]


def _curve(name: str, records: Sequence[Mapping[str, Any]], key: str, over: str, smooth: int) -> Curve:
    xs: list[float] = []
    ys: list[float] = []
    window: deque[float] = deque(maxlen=smooth)
    for each in records:
        x = each["step"] if over == "step" else each.get("run_seconds", math.nan) / 3600
        if key in each and isinstance(each[key], int | float) and math.isfinite(each[key]) and math.isfinite(x):
            window.append(float(each[key]))
            xs.append(x)
            ys.append(math.fsum(window) / len(window))
    return Curve(name, xs, ys)


def _html(found: Mapping[str, Sequence[Curve]], over: str) -> str:
    require("plotly", "levanter plot", "plot")
    from plotly import colors, subplots  # pyright: ignore[reportMissingImports]

    figure = subplots.make_subplots(
        rows=len(found),
        cols=1,
        subplot_titles=list(found),
        vertical_spacing=0.3 / len(found),
        shared_xaxes="all",  # pyright: ignore[reportArgumentType] (its stub knows True alone)
    )
    figure.update_xaxes(showticklabels=True)
    palette = dict(zip(_runs(found), colors.qualitative.Plotly * len(found), strict=False))
    shown: set[str] = set()
    for row, drawn in enumerate(found.values(), start=1):
        for each in drawn:
            line = {"color": palette.get(each.run, "#636efa")}
            legend = {"name": each.run, "legendgroup": each.run, "showlegend": each.run not in shown}
            mode = "lines+markers" if each.is_sparse else "lines"
            figure.add_scatter(x=each.xs, y=each.ys, mode=mode, line=line, row=row, col=1, **legend)
            shown.add(each.run)
        figure.update_xaxes(title_text=AXES[over], row=row, col=1)
    figure.update_layout(height=340 * len(found), template="plotly_white", hovermode="x unified")
    return figure.to_html(include_plotlyjs=True, full_html=True)


def _image(found: Mapping[str, Sequence[Curve]], path: Path, over: str) -> None:
    require("matplotlib", "levanter plot", "plot")
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    figure = Figure(figsize=(9, 3.2 * len(found)), layout="constrained")
    runs = _runs(found)
    charts = figure.subplots(len(found), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (key, drawn) in zip(charts, found.items(), strict=True):
        for each in drawn:
            marker = "o" if each.is_sparse else None
            color = f"C{runs.index(each.run) % 10}"
            axes.plot(each.xs, each.ys, label=each.run, color=color, linewidth=1.2, marker=marker, markersize=4)
        axes.set_title(key)
        axes.set_xlabel(AXES[over])
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
        if len(runs) > 1:
            axes.legend()
    figure.savefig(path, dpi=130)


def _runs(found: Mapping[str, Sequence[Curve]]) -> list[str]:
    return list(dict.fromkeys(each.run for drawn in found.values() for each in drawn))
