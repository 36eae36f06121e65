"""`levanter plan`: work with the files of plans that `levanter compile --save-plan` wrote."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from levanter.cli import errors
from levanter.cli.group import Group
from levanter.cli.options import (
    OVERRIDES,
    config_options,
    is_own_config,
    json_option,
    load_config,
    place_given,
    size_options,
    target_of,
    without_accelerator,
)

if TYPE_CHECKING:
    from levanter.compiler.plan_changes import Step
    from levanter.compiler.question import PlanConfig

PLAIN_WIDTH = 120


@click.group(cls=Group)
def plan() -> None:
    """Compare the files of two plans."""


@plan.command(context_settings=OVERRIDES)
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.argument("step", metavar="[MODULE:FUNCTION]", required=False)
@config_options
@click.option(
    "--hardware", metavar="CHIP", help="Price both for this chip; left out, each for the one it was made for."
)
@size_options
@json_option
@click.pass_context
def diff(
    ctx: click.Context,
    before: str,
    after: str,
    step: str | None,
    model: str | None,
    path: str | None,
    hardware: str | None,
    batch_size: str | None,
    seq_len: str | None,
    as_json: bool,
) -> None:
    """Show what changes from plan A to plan B, in names and numbers.

    Both are priced for one step: the names that are sharded otherwise, step time, memory, and each collective that is
    gained or lost. The step is that which A was made for, or a configuration (--model, --config, and its fields by
    their dotted names), or MODULE:FUNCTION, any JAX step.
    """
    without_accelerator()
    from levanter.compiler.question import read_plan

    files = [read_plan(each, each) for each in (before, after)]
    place = place_given(ctx, step)
    own = place if is_own_config(place) else None
    if (place, model, path) == (None,) * 3:
        place, model, own = _made_for(files[0])
    overrides = {"trainer__train_batch_size": batch_size, "model__seq_len": seq_len}
    of_configurations = {} if own else {"model": model, "path": path, "batch_size": batch_size, "seq_len": seq_len}
    target = target_of(ctx, None if own else place, None, None, "plan", **of_configurations)
    subject: Step = target or load_config(ctx, model, path, own, **overrides)
    with contextlib.redirect_stdout(sys.stderr):
        from levanter.compiler.plan_changes import compared

        result = compared(subject, files[0], files[1], hardware)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    from rich.console import Console

    from levanter.compiler.report import changed_tables

    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    with console.capture() as captured:
        changed_tables(result, console)
    print(captured.get(), end="")


def _made_for(document: PlanConfig) -> tuple[str | None, str | None, str | None]:
    """The step that a plan was made for: a place, or the name of a model; the place again where it holds a config.

    Raises:
        UserError: the file names none that can be found.
    """
    from levanter import user_code
    from levanter.config import model_names

    made: Any = document.model
    if user_code.is_place(made) and (not user_code.is_file_place(made) or Path(made.rpartition(":")[0]).is_file()):
        return made, None, made if is_own_config(made) else None
    if made in model_names():
        return None, made, None
    raise errors.no_step_of_a_plan(document.source, made)
