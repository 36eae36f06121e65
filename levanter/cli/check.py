"""`levanter check`: find the axis mistakes of a training step without running it."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import click

from levanter.cli import errors
from levanter.cli.options import (
    OVERRIDES,
    ConfigCommand,
    config_options,
    is_own_config,
    json_option,
    load_config,
    place_given,
    step_options,
    target_of,
    without_accelerator,
)


@click.command("check", cls=ConfigCommand, context_settings=OVERRIDES)
@step_options
@config_options
@click.option("--ignore", metavar="CODE", multiple=True, help="A warning that is not wanted; may be given again.")
@json_option
@click.pass_context
def check_command(
    ctx: click.Context,
    step: str | None,
    arguments: str | None,
    names: str | None,
    model: str | None,
    path: str | None,
    ignore: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find the axis mistakes of a training step without running it.

    The step is a function, or the training step of a configuration (--model, --config, or MODULE:CONFIG, the config
    of a model of your own). FUNCTION takes no arguments and returns (step, arguments), or it is the step itself and
    FUNCTION_arguments beside it holds its arguments: a tuple, or a function that returns one. Shapes do.
    FUNCTION_names beside it names the dims of raw arrays. MODULE may be the path of a file.
    """
    without_accelerator()
    place = place_given(ctx, step, any_word=True)
    # What a module prints while it is imported must not end up among the findings.
    with contextlib.redirect_stdout(sys.stderr):
        own = place if is_own_config(place) else None
    target = target_of(ctx, None if own else place, arguments, names, "check", model=model, path=path)
    if target is None and model is None and path is None and own is None:
        raise errors.nothing_to_check()
    codes = [code.strip() for each in ignore for code in each.split(",") if code.strip()]
    with contextlib.redirect_stdout(sys.stderr):
        if target is None:
            config = load_config(ctx, model, path, own)
            from levanter.compiler.graphs import check_config

            found, nameless = check_config(config, codes), None
        else:
            from levanter.compiler.user_step import check

            found, nameless = check(target, codes)
    _print(found, nameless, as_json)
    if found:
        raise errors.findings(sum(each["severity"] == "error" for each in found), len(found))


def _print(found: list[dict[str, Any]], nameless: str | None, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"findings": found, **({"unnamed": nameless} if nameless else {})}, indent=2))
        return
    for each in found:
        print(each["text"] + "\n")
    if not found:
        print("no axis mistakes")
    if nameless:
        print(f"note: {nameless}")
