"""`levanter verify`: whether a step under shardings of its own computes what it computes on one device."""

from __future__ import annotations

import contextlib
import json
import sys

import click

from levanter.cli import errors
from levanter.cli.options import debug, json_option, mesh_option, step_options, target_of, without_accelerator


@click.command("verify")
@step_options
@mesh_option
@click.option(
    "--shardings",
    metavar="WHERE",
    multiple=True,
    help="Where the step's arrays are: MODULE:NAME, or PATH=AXES, as often as you like. Left out: FUNCTION_shardings "
    "beside the step, or what the step itself says.",
)
@click.option("--against", metavar="MODULE:FUNCTION", help="A step that is the reference; left out: the step itself.")
@json_option
@debug
@click.pass_context
def verify_command(
    ctx: click.Context,
    step: str | None,
    arguments: str | None,
    names: str | None,
    mesh: str | None,
    shardings: tuple[str, ...],
    against: str | None,
    as_json: bool,
) -> None:
    """Compare a step on a mesh with one device, to the bit.

    The step is run by plain `jax.jit` under shardings of your own, and not under a plan: whether what XLA's
    partitioner, or the collectives of a `shard_map`, make of it is right. It is computed in whole numbers, of which
    sums do not depend on their order, so that no tolerance hides a fault. No accelerator is needed.
    """
    without_accelerator()
    target = target_of(ctx, step, arguments, names, "verify")
    if target is None:
        raise errors.no_step_to_verify()
    with contextlib.redirect_stdout(sys.stderr):
        from levanter.compiler.question import parse_mesh
        from levanter.compiler.report.values_table import values_text
        from levanter.compiler.values import verified_step

        found = verified_step(target, parse_mesh(mesh), shardings, against)
    print(json.dumps({"values": found}, indent=2, allow_nan=False) if as_json else values_text(found))
    if found["different"]:
        raise errors.values_differ(len(found["different"]), found["outputs"])
