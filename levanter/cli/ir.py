"""`levanter ir`: look at graphs that `levanter compile --dump-ir` wrote, and run passes on them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from levanter.cli import errors
from levanter.cli.group import Group
from levanter.cli.options import assigned, debug, mesh_option, plan_options, rules_by_hand, step_options, target_of

if TYPE_CHECKING:
    from levanter.compiler.target import Target


class StepOrCommand(Group):
    """A group to which MODULE:FUNCTION stands for `show MODULE:FUNCTION`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, `show` for a step."""
        if args and _is_step(args[0]) and self.get_command(ctx, args[0]) is None:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=StepOrCommand)
def ir() -> None:
    """Look at graphs that --dump-ir wrote, and run passes on them.

    A step of your own, MODULE:FUNCTION, does where a file is expected; alone, its graph is printed.
    """


@ir.command()
@step_options
@click.option("-o", "--output", metavar="OUT.ir", help="Where to write; left out: to stdout.")
@debug
@click.pass_context
def show(ctx: click.Context, step: str | None, arguments: str | None, names: str | None, output: str | None) -> None:
    """Print the graph of a step: what every dim is called, in every value of it."""
    target = target_of(ctx, step, arguments, names, "show")
    if target is None:
        raise errors.nothing_to_show()
    _write(output, _traced(target))


@ir.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="[B]", required=False)
@debug
def diff(before: str, after: str | None) -> None:
    """Show what changed between two graphs, by names.

    A and B are files, or steps. A alone is a folder of --dump-ir: what each pass changed. Two folders: what changed in
    each dump that both have. Value numbers mean nothing.
    """
    pairs = _pairs(before, after)
    from levanter.compiler.graphs import graph_changes

    texts = [graph_changes(_text(first), _text(second), str(first), str(second)) for first, second in pairs]
    print("\n".join(texts), end="")


@ir.command()
@click.argument("source", metavar="IN.ir")
@click.option("--pass", "name", metavar="NAME", required=True, help="The pass; a wrong name lists all of them.")
@click.option("-o", "--output", metavar="OUT.ir", help="Where to write; left out: to stdout.")
@mesh_option
@click.option("--hardware", metavar="CHIP", default="v5e", show_default=True, help="The chip to plan for.")
@plan_options
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

    IN.ir is a file, a step, or - for stdin. A pass that needs a plan takes --mesh and plans for it, unless --compute
    and --storage say where each name goes. docs/passes.md lists the passes and their options.
    """
    from levanter.compiler.question import parse_mesh

    computed, stored = rules_by_hand(compute, storage)
    given = dict(assigned(each, "--option") for each in options)
    positions = _positions(at_rest)
    text = sys.stdin.read() if source == "-" else _text(source)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a pass needs no accelerator that another process trains on
    from levanter.compiler.graphs import run_pass

    result, warned = run_pass(
        name,
        text,
        "stdin" if source == "-" else source,
        mesh=parse_mesh(mesh).as_dict() if mesh is not None else None,
        hardware=hardware,
        compute=computed,
        storage=stored,
        at_rest=positions,
        options=given,
    )
    for warning in warned:
        print(warning, file=sys.stderr)
    _write(output, result)


@ir.command()
@click.argument("source", metavar="FILE.ir")
@click.option("--against", metavar="ORIGINAL.ir", help="The graph before partition: that the step is the same, too.")
@mesh_option
@debug
def prove(source: str, against: str | None, mesh: str | None) -> None:
    """Prove that a partitioned graph means what it says, or refute it.

    FILE.ir is a graph with layouts and collectives, such as the last one of --dump-ir, by hand or not; - is stdin.
    Without --against only layouts are looked at; with --mesh sizes are, too. Exit code 1: it is refuted, and the
    message names the operation, the state of its operand, and the fix.
    """
    from levanter.compiler.question import parse_mesh

    text = sys.stdin.read() if source == "-" else _text(source)
    before = (_text(against), against) if against is not None else None
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from levanter.compiler import prove_text

    sizes = parse_mesh(mesh).as_dict() if mesh is not None else None
    print(prove_text.prove(text, "stdin" if source == "-" else source, before, sizes))


def _positions(text: str) -> Sequence[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise errors.no_positions(text) from None


def _write(output: str | None, text: str) -> None:
    """Into a file, or to stdout where none is named."""
    if output is None:
        print(text, end="")
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise errors.cannot_write(output, error) from None


def _pairs(before: str, after: str | None) -> list[tuple[str, str]]:
    """The files, or steps, to compare, two and two."""
    if after is None:
        dumps = [str(path) for path in _dumps(Path(before))]
        if len(dumps) < 2:
            raise errors.no_dumps(before, len(dumps))
        return list(zip(dumps, dumps[1:], strict=False))
    if Path(before).is_dir() != Path(after).is_dir():
        raise errors.file_and_folder(before, after)
    if not Path(before).is_dir():
        return [(before, after)]
    there = {path.name: path for path in _dumps(Path(after))}
    pairs = [(str(path), str(there[path.name])) for path in _dumps(Path(before)) if path.name in there]
    if not pairs:
        raise errors.nothing_in_common(before, after)
    return pairs


def _dumps(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise errors.no_folder(str(folder))
    return sorted(folder.glob("*.ir"))


def _is_step(source: str) -> bool:
    """Whether MODULE:FUNCTION is meant and no file."""
    place, colon, name = source.rpartition(":")
    return bool(colon and place and name) and not Path(source).exists()


def _text(source: str) -> str:
    """The text of a graph in a file, or of the graph of a step."""
    if _is_step(source):
        from levanter.compiler.target import Target

        return _traced(Target(source))
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.cannot_read(source, error) from None


def _traced(target: Target) -> str:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # tracing needs no accelerator that another process trains on
    with contextlib.redirect_stdout(sys.stderr):
        from levanter.compiler import user_step

        return user_step.text(target)
