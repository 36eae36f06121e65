"""`levanter launch`: several processes on one machine."""

from __future__ import annotations

import click

from levanter.cli.lasting_output import lasting_output
from levanter.cli.options import debug


@click.command("launch", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--processes", type=click.IntRange(1), required=True, metavar="N", help="How many.")
@click.option(
    "--devices-per-process",
    type=click.IntRange(1),
    metavar="D",
    help="CPU devices of each; where the command has no --mesh, it gets one of N x D devices.",
)
@debug
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def launch_command(
    ctx: click.Context, processes: int, devices_per_process: int | None, command: tuple[str, ...]
) -> None:
    """Start a training command in several processes here.

    It is for trying out on one machine what runs on many.

    \b
    levanter launch --processes 4 -- train --mesh 4

    Each line of output has the number of its process before it. Where one process fails, all stop. The processes share
    the CPU, unless JAX_PLATFORMS says otherwise. Exit code: that of the process that failed first, 1 where it was
    killed. On a cluster, start `levanter train` itself in each place: see docs/getting-started-multihost.md.
    """
    from levanter.processes import errors
    from levanter.processes.launching import launch

    if not command:
        raise errors.nothing_to_launch()
    if command[0] != "train":
        raise errors.cannot_launch(command[0])
    has_mesh = any(each.split("=")[0] in ("--mesh", "--trainer.mesh") for each in command)
    if devices_per_process is not None and not has_mesh:
        command = (*command, "--mesh", f"data={processes * devices_per_process}")
    with lasting_output():
        code = launch(command, processes)
    ctx.exit(code)
