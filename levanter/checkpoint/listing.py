"""The checkpoints of a folder as a table."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from levanter.checkpoint import errors
from levanter.checkpoint.directory import committed, resolve
from levanter.checkpoint.locations import Location, location
from levanter.checkpoint.manifest import read_manifest
from levanter.errors import UserError

_HEADER = ("checkpoint", "written", "size", "arrays", "format")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def checkpoints_of(path: Location | str) -> list[Location]:
    """Every checkpoint of a run directory or of a folder of checkpoints, oldest first, or the one that `path` is.

    Raises:
        UserError: there is none.
    """
    path = location(path)
    newest = resolve(path)
    return [newest] if newest == path else committed(newest.parent)


def listing(path: Location | str) -> str:
    """A line for each checkpoint; of one that cannot be read, what is wrong with its manifest.

    Raises:
        UserError: there is none.
    """
    rows: list[Sequence[str]] = [_HEADER]
    for each in checkpoints_of(path):
        try:
            manifest = read_manifest(each)
        except errors.DamagedCheckpoint as problem:
            rows.append((each.name, "", "", "", f"damaged: {problem.what}"))
        except UserError as problem:  # of another step, or of another format
            rows.append((each.name, "", "", "", str(problem)))
        else:
            rows.append(
                (
                    each.name,
                    _when(manifest.written),
                    size(manifest.nbytes),
                    str(len(manifest.arrays)),
                    str(manifest.format),
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
    lines = ("  ".join([*map(str.ljust, row[:-1], widths), row[-1]]).rstrip() for row in rows)
    return "\n".join(lines)


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def _when(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
