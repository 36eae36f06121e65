"""`levanter ir`: look at graphs that `levanter compile --dump-ir` wrote, and run passes on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from levanter.cli import errors
from levanter.cli.group import Group
from levanter.cli.options import debug, mesh_option


@click.group(cls=Group)
def ir() -> None:
    """Look at graphs that --dump-ir wrote, and run passes on them."""


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


@ir.command()
@click.argument("source", metavar="IN.ir")
@click.option("--pass", "name", metavar="NAME", required=True, help="The pass; a wrong name lists all of them.")
@click.option("-o", "--output", metavar="OUT.ir", help="Where to write; left out: to stdout.")
@mesh_option
@click.option("--hardware", metavar="CHIP", default="v5e", show_default=True, help="The chip to plan for.")
@click.option("--compute", metavar="NAME=AXES", multiple=True, help="A plan by hand: batch=data or mlp=data,model.")
@click.option("--storage", metavar="NAME=AXES", multiple=True, help="The same for state at rest.")
@click.option("--at-rest", metavar="N,N", default="", help="Inputs, by position, that are stored as state is.")
@click.option("--option", "options", metavar="NAME=VALUE", multiple=True, help="An option of the pass.")
@debug
def run(
    source: str,
    name: str,
    output: str | None,
    mesh: str | None,
    hardware: str,
    compute: tuple[str, ...],
    storage: tuple[str, ...],
    at_rest: str,
    options: tuple[str, ...],
) -> None:
    """Run one pass on the text of a graph, and print what it makes.

    IN.ir is a file, or - for stdin. A pass that needs a plan takes --mesh and plans for it, unless --compute and
    --storage say where each name goes. docs/passes.md lists the passes and their options.
    """
    from levanter.compiler.question import parse_mesh

    layouts = [_assigned(each, "--compute") for each in compute], [_assigned(each, "--storage") for each in storage]
    given = dict(_assigned(each, "--option") for each in options)
    positions = _positions(at_rest)
    text = sys.stdin.read() if source == "-" else _read(Path(source))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a pass needs no accelerator that another process trains on
    from levanter.compiler.compile import run_pass

    result, warned = run_pass(
        name,
        text,
        "stdin" if source == "-" else source,
        mesh=parse_mesh(mesh).as_dict() if mesh is not None else None,
        hardware=hardware,
        compute={axis: over.split(",") for axis, over in layouts[0]},
        storage={axis: over.split(",") for axis, over in layouts[1]},
        at_rest=positions,
        options=given,
    )
    for warning in warned:
        print(warning, file=sys.stderr)
    if output is None:
        print(result, end="")
    else:
        _write(Path(output), result)


def _assigned(text: str, option: str) -> tuple[str, str]:
    """The two sides of NAME=VALUE."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise errors.not_assigned(option, text)
    return name, value


def _positions(text: str) -> Sequence[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise errors.no_positions(text) from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise errors.cannot_write(str(path), error) from None


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
