"""`levanter reproduce`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from levanter.cli.options import debug, mesh_option
from levanter.runtime import errors


@click.command("reproduce")
@click.argument("run_dir")
@click.option(
    "--steps",
    metavar="FIRST:LAST",
    help="What was made after step FIRST up to step LAST. Left out: what is between the last two checkpoints.",
)
@mesh_option
@debug
def reproduce_command(run_dir: str, steps: str | None, mesh: str | None) -> None:
    """Make steps of a run again, and compare bit by bit.

    The steps start from the nearest checkpoint before them, or from the start of the run. Every record of metrics.jsonl
    must be the same, and every array of the checkpoints on the way; where something is not, the first step and the
    first array are named, and the exit code is 1. Nothing is written to RUN_DIR.
    """
    from levanter.cli import devices
    from levanter.runtime import environment
    from levanter.runtime.asked import requested

    request = requested(Path(run_dir), _steps(steps), mesh)
    config = request.config(request.end)
    if request.threads is not None:
        environment.fix_threads(request.threads)
    if config.trainer.mesh is not None:
        devices.prepare(config.mesh)
        devices.require(config.mesh)

    from levanter.runtime import compile_cache
    from levanter.runtime.reproduce import reproduce

    with compile_cache.used(config.trainer.compile_cache):
        print(reproduce(request, lambda line: print(line, file=sys.stderr, flush=True)))


def _steps(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,18}):(\d{1,18})", text.strip())
    if found is None or int(found[1]) >= int(found[2]):
        raise errors.no_steps(text)
    return int(found[1]), int(found[2])
