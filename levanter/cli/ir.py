"""`levanter ir`: look at graphs that `levanter compile --dump-ir` wrote."""

from __future__ import annotations

from pathlib import Path

import click

from levanter.cli import errors
from levanter.cli.group import Group
from levanter.cli.options import debug


@click.group(cls=Group)
def ir() -> None:
    """Look at graphs that --dump-ir wrote."""


@ir.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="[B]", required=False)
@debug
def diff(before: str, after: str | None) -> None:
    """Show what changed between two graphs, by names.

    A and B are files. A alone is a folder of --dump-ir: what each pass changed. Two folders: what changed in each dump
    that both have. Value numbers mean nothing.
    """
    pairs = _pairs(Path(before), Path(after) if after is not None else None)
    from levanter.compiler.compile import graph_changes

    texts = [graph_changes(_read(first), _read(second), str(first), str(second)) for first, second in pairs]
    print("\n".join(texts), end="")


def _pairs(before: Path, after: Path | None) -> list[tuple[Path, Path]]:
    """The files to compare, two and two."""
    if after is None:
        dumps = _dumps(before)
        if len(dumps) < 2:
            raise errors.no_dumps(str(before), len(dumps))
        return list(zip(dumps, dumps[1:], strict=False))
    if before.is_dir() != after.is_dir():
        raise errors.file_and_folder(str(before), str(after))
    if not before.is_dir():
        return [(before, after)]
    there = {path.name: path for path in _dumps(after)}
    pairs = [(path, there[path.name]) for path in _dumps(before) if path.name in there]
    if not pairs:
        raise errors.nothing_in_common(str(before), str(after))
    return pairs


def _dumps(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise errors.no_folder(str(folder))
    return sorted(folder.glob("*.ir"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.cannot_read(str(path), error) from None
