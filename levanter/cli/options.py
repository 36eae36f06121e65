"""What the commands that work on a configuration share: how it is named, and dotted overrides of its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from levanter.cli import errors

if TYPE_CHECKING:
    from levanter.compiler.target import Target
    from levanter.config import TrainConfig

Rules = Mapping[str, Sequence[str]]
"""Sharding rules: axis name to mesh axes."""

# Options that are not ours are kept in `ctx.args` for the configuration to read.
OVERRIDES = {"ignore_unknown_options": True, "allow_extra_args": True}


class ConfigCommand(click.Command):
    """A command that works on a configuration: its help ends with the names that there are."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the models, the chips, and where the fields are explained."""
        from levanter.compiler.question import chip_names
        from levanter.config import model_names

        with formatter.section("Names"):
            formatter.write_dl(
                [
                    ("models", f"{', '.join(model_names())} (--model)"),
                    ("chips", f"{', '.join(chip_names())} (--trainer.hardware)"),
                    ("fields", "`levanter config --explain` prints every one with its meaning, choices and default"),
                ]
            )


debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback where something goes wrong.")


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --model and --config, and --debug."""
    command = debug(command)
    command = click.option("--config", "--config_path", "path", metavar="PATH", help="Configuration file (YAML).")(
        command
    )
    return click.option("--model", metavar="NAME", help="A shipped configuration, such as gpt2_nano (the default).")(
        command
    )


def step_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the step of the user's that a command works on, --arguments and --names."""
    command = click.option(
        "--names",
        metavar="FILE",
        help="Names of dims, where not beside the step: FILE.py with FUNCTION_names in it, or MODULE:NAME.",
    )(command)
    command = click.option(
        "--arguments", metavar="MODULE:NAME", help="Where the step's arguments are, if not beside it."
    )(command)
    return click.argument("step", metavar="[MODULE:FUNCTION]", required=False)(command)


def target_of(
    ctx: click.Context,
    step: str | None,
    arguments: str | None,
    names: str | None,
    verb: str,
    **configuration: str | None,
) -> Target | None:
    """The step of the user's that a command line names; None where it names none, and so a configuration.

    Args:
        verb: what the command does with it.
        configuration: the values of the options that only a configuration has, by their names.

    Raises:
        UserError: a step and a configuration are named, or an option goes with the other of the two.
    """
    stray = verb == "plan" and step is not None and not set(step) & set(":.")
    if step is not None and (step.startswith("--") or stray):  # for the configuration to read, see OVERRIDES
        ctx.args.insert(0, step)
        step = None
    if step is None:
        for option, value in (("--arguments", arguments), ("--names", names)):
            if value is not None:
                raise errors.needs_a_step(option)
        return None
    if configuration.pop("model", None) is not None or configuration.pop("path", None) is not None:
        raise errors.step_and_config(verb)
    for option, value in configuration.items():
        if value is not None:
            raise errors.needs_a_config(f"--{option.replace('_', '-')}")
    if ctx.args:
        raise errors.unexpected_arguments(ctx.args, ctx.command_path)
    from levanter.compiler.target import Target

    return Target(step, arguments, names)


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --compute and --storage, a plan by hand."""
    command = click.option("--storage", metavar="NAME=AXES", multiple=True, help="The same for state at rest.")(command)
    return click.option(
        "--compute", metavar="NAME=AXES", multiple=True, help="A plan by hand: batch=data or mlp=data,model."
    )(command)


def rules_by_hand(compute: Sequence[str], storage: Sequence[str]) -> tuple[Rules, Rules]:
    """The sharding rules of a plan by hand. Raises `UserError` for what is not NAME=AXES."""
    first, second = (
        {axis: over.split(",") for axis, over in (assigned(each, option) for each in given)}
        for option, given in (("--compute", compute), ("--storage", storage))
    )
    return first, second


def assigned(text: str, option: str) -> tuple[str, str]:
    """The two sides of NAME=VALUE. Raises `UserError` where it is not that."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise errors.not_assigned(option, text)
    return name, value


def mesh_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --mesh, which is wrong before anything else is looked at."""
    return click.option(
        "--mesh",
        metavar="SHAPE",
        callback=_mesh,
        help="Device mesh: 4x2 is data=4,model=2; any axes can be named. Left out: the configuration's, or one device.",
    )(command)


def load_config(ctx: click.Context, model: str | None, path: str | None, **shorthands: Any) -> TrainConfig:
    """The configuration that a command line names, with its overrides.

    `shorthands` are values of options that stand for a field, keyed by the field with `__` for its dots
    (`trainer__mesh`); None means not given.

    Raises:
        UserError: anything is wrong with the configuration.
    """
    from pathlib import Path

    from levanter import config
    from levanter.config import errors as config_errors

    if model is not None and path is not None:
        raise config_errors.model_and_config()
    source = Path(path) if path is not None else config.find_model(model or config.DEFAULT_MODEL)
    given = [f"--{field.replace('__', '.')}={value}" for field, value in shorthands.items() if value is not None]
    return config.load(source, [*given, *ctx.args], options=option_names(ctx))


def option_names(ctx: click.Context) -> list[str]:
    """The command's own options, for suggesting one where an override is unknown."""
    return [option.removeprefix("--") for param in ctx.command.params for option in param.opts]


def _mesh(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        from levanter.compiler.question import parse_mesh

        parse_mesh(value)
    return value
