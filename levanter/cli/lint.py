"""`levanter lint`: hold sharding rules of another system against a step."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING

import click

from levanter.cli import errors
from levanter.cli.options import (
    DEFAULT_HARDWARE,
    OVERRIDES,
    ConfigCommand,
    assigned,
    config_options,
    hardware_option,
    is_own_config,
    json_option,
    load_config,
    mesh_option,
    place_given,
    size_options,
    target_of,
    without_accelerator,
)

if TYPE_CHECKING:
    from levanter.compiler.lint import Step


@click.command("lint", cls=ConfigCommand, context_settings=OVERRIDES)
@click.argument("rules", metavar="RULES")
@click.argument("step", metavar="[MODULE:FUNCTION]", required=False)
@config_options
@mesh_option
@hardware_option
@click.option(
    "--name",
    "names",
    metavar="THEIRS=OURS",
    multiple=True,
    help="What an axis that the rules name is called in the step; may be given again.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Compare with the best plan found by then; left out, the search goes on until the optimum is proven.",
)
@size_options
@json_option
@click.pass_context
def lint_command(
    ctx: click.Context,
    rules: str,
    step: str | None,
    model: str | None,
    path: str | None,
    mesh: str | None,
    hardware: str | None,
    names: tuple[str, ...],
    time_limit: float | None,
    batch_size: str | None,
    seq_len: str | None,
    as_json: bool,
) -> None:
    """Say what is wrong with sharding rules.

    RULES is a file of another system: an axis mapping of Levanter, logical axis rules of MaxText or Flax, a tp_plan
    of Hugging Face, or PartitionSpecs by path, in YAML, JSON or Python, which is read and not run. It is held against
    the step of a configuration, or MODULE:FUNCTION, on a mesh that is named as theirs is (--mesh
    data=4,fsdp=8,tensor=4), and priced beside the best plan.
    """
    without_accelerator()
    place = place_given(ctx, step)
    with contextlib.redirect_stdout(sys.stderr):
        own = place if is_own_config(place) else None
    of_configurations = {} if own else {"model": model, "path": path, "batch_size": batch_size, "seq_len": seq_len}
    target = target_of(ctx, None if own else place, None, None, "lint", **of_configurations)
    if mesh is None:
        raise errors.lint_without_mesh()
    own_names = dict(assigned(each, "--name") for each in names)
    overrides = {"trainer__train_batch_size": batch_size, "model__seq_len": seq_len, "trainer__hardware": hardware}
    with contextlib.redirect_stdout(sys.stderr):
        subject: Step
        if target is None:
            subject = load_config(ctx, model, path, own, trainer__mesh=mesh, **overrides)
            chip = subject.trainer.hardware
        else:
            subject, chip = target, hardware or DEFAULT_HARDWARE
        from levanter.compiler.lint import linted
        from levanter.compiler.question import parse_mesh

        found = linted(subject, rules, parse_mesh(mesh).as_dict(), chip, own_names=own_names, time_limit=time_limit)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        from levanter.compiler.report.lint_text import lint_text

        print(lint_text(found))
    if found["findings"]:
        raise errors.rule_findings(len(found["findings"]))
