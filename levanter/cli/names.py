"""`levanter names`: a file of names for a step's arrays to start from."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from levanter.cli import errors
from levanter.cli.options import debug, step_options, target_of


@click.command("names")
@step_options
@debug
@click.pass_context
def names_command(ctx: click.Context, step: str | None, arguments: str | None, names: str | None) -> None:
    """Print names for the arrays of a step, to be filled in.

    It is Python: every path of the step's arguments with its shape and the names that are known, those that the step
    has already and what follows from them; `_` where none is. Paste it beside the step, or give it with --names.
    """
    target = target_of(ctx, step, arguments, names, "name")
    if target is None:
        raise errors.nothing_to_name()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # tracing needs no accelerator that another process trains on
    with contextlib.redirect_stdout(sys.stderr):
        from levanter.compiler.starting_names import starting_file

        text = starting_file(target)
    print(text, end="")
