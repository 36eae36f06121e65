"""`levanter check`: find the axis mistakes of a training step without running it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

import click

from levanter.cli import errors
from levanter.cli.options import OVERRIDES, ConfigCommand, config_options, load_config


@click.command("check", cls=ConfigCommand, context_settings=OVERRIDES)
@click.argument("target", metavar="[MODULE:FUNCTION]", required=False)
@config_options
@click.option("--arguments", metavar="MODULE:NAME", help="Where the step's arguments are, if not beside it.")
@click.option("--ignore", metavar="CODE", multiple=True, help="A warning that is not wanted; may be given again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.pass_context
def check_command(
    ctx: click.Context,
    target: str | None,
    model: str | None,
    path: str | None,
    arguments: str | None,
    ignore: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find the axis mistakes of a training step without running it.

    The step is a function, or the training step of a configuration (--model, --config). FUNCTION takes no arguments
    and returns (step, arguments), or it is the step itself and FUNCTION_arguments beside it holds its arguments: a
    tuple, or a function that returns one. Shapes do. MODULE may be the path of a file.
    """
    if target is not None and target.startswith("--"):
        ctx.args.insert(0, target)
        target = None
    _check_question(ctx, target, model, path, arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # tracing needs no accelerator that another process trains on
    codes = [code.strip() for each in ignore for code in each.split(",") if code.strip()]
    # What a module prints while it is imported must not end up among the findings.
    with contextlib.redirect_stdout(sys.stderr):
        found = _findings(ctx, target, model, path, arguments, codes)
    _print(found, as_json)
    if found:
        raise errors.findings(sum(each["severity"] == "error" for each in found), len(found))


def _check_question(
    ctx: click.Context, target: str | None, model: str | None, path: str | None, arguments: str | None
) -> None:
    if target is None and model is None and path is None:
        raise errors.nothing_to_check()
    if target is not None and (model is not None or path is not None):
        raise errors.step_and_config()
    if target is None and arguments is not None:
        raise errors.arguments_without_step()
    if target is not None and ctx.args:
        raise errors.unexpected_arguments(ctx.args)


def _findings(
    ctx: click.Context,
    target: str | None,
    model: str | None,
    path: str | None,
    arguments: str | None,
    ignore: list[str],
) -> list[dict[str, Any]]:
    if target is None:
        config = load_config(ctx, model, path)
        from levanter.compiler.compile import check_config

        return check_config(config, ignore)
    from levanter.cli.target import load_step

    step, given = load_step(target, arguments)
    from levanter.compiler.compile import check_step

    return check_step(step, given, ignore, target)


def _print(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"findings": found}, indent=2))
        return
    for each in found:
        print(each["text"] + "\n")
    if not found:
        print("no axis mistakes")
