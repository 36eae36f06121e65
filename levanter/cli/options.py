"""What the commands that work on a configuration share: how it is named, and dotted overrides of its fields."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from levanter.cli import errors

if TYPE_CHECKING:
    from levanter.compiler.target import Target
    from levanter.config import TrainConfig
    from levanter.inference.loaded import Loaded

Rules = Mapping[str, Sequence[str]]
"""Sharding rules: axis name to mesh axes."""

VERIFIED = ("compiled", "values")
"""What --verify can be about."""

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


DEFAULT_HARDWARE = "v5e"
"""The chip that a step of the user's own is planned for, where none is given."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
hardware_option = click.option(
    "--hardware", metavar="CHIP", help="The chip to plan for, such as v5e or h100, or my_chips.yaml:NAME."
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


def size_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --batch-size and --seq-len."""
    command = click.option("--seq-len", metavar="N", help="Tokens in a sequence.")(command)
    return click.option("--batch-size", metavar="N", help="Sequences in a step.")(command)


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


def own_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the config of a model of the user's own, as an argument."""
    return click.argument("own", metavar="[FILE.py:CONFIG]", required=False)(command)


def place_given(ctx: click.Context, first: str | None, any_word: bool = False) -> str | None:
    """The one argument of a command line that is a place and no field of the configuration or its value.

    Args:
        first: what click takes for it: the first argument that it does not know.
        any_word: whether a word without a colon or a dot is meant as one, and nothing for the configuration to refuse.

    Raises:
        UserError: there are two.
    """
    arguments = ctx.args if first is None else [first, *ctx.args]
    places, rest, position = [], [], 0
    while position < len(arguments):
        argument = arguments[position]
        takes_next = argument.startswith("--") and "=" not in argument
        if argument.startswith("--") or not (any_word or set(argument) & set(":.")):
            rest.append(argument)
        else:
            places.append(argument)
        if takes_next:
            rest += arguments[position + 1 : position + 2]
        position += 2 if takes_next else 1
    if len(places) > 1:
        raise errors.unexpected_arguments(places[1:], ctx.command_path)
    ctx.args[:] = rest
    return places[0] if places else None


def is_own_config(place: str | None) -> bool:
    """Whether a place holds the config of a model, and no step. It is imported where it can be.

    Raises:
        UserError: importing it fails.
    """
    from levanter import user_code

    if place is None or not user_code.is_place(place):
        return False
    from levanter.models.config import ModelConfig

    what = user_code.load(place)
    return isinstance(what, type) and issubclass(what, ModelConfig)


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
        step: what `place_given` found, unless it is the config of a model.
        verb: what the command does with it.
        configuration: the values of the options that only a configuration has, by their names.

    Raises:
        UserError: a step and a configuration are named, or an option goes with the other of the two.
    """
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


def without_accelerator() -> None:
    """Keep JAX off an accelerator that another process trains on; called before anything can import JAX."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def plan_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --plan, the file of a plan."""
    return click.option(
        "--plan", metavar="FILE", help="Follow the plan in a file that `levanter compile --save-plan` wrote."
    )(command)


OF_A_RUN = ("--run-dir", "--profile", "--coordinator", "--processes", "--process-id")
"""Options of `levanter train` that say nothing of its step."""


def of_a_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Takes the options of `OF_A_RUN` and does nothing with them: a command line of `train` can be planned as it is."""
    for name in OF_A_RUN:
        command = click.option(name, hidden=True, expose_value=False)(command)
    return command


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --compute and --storage, a plan by hand."""
    command = click.option("--storage", metavar="NAME=AXES", multiple=True, help="The same for state at rest.")(command)
    return click.option(
        "--compute", metavar="NAME=AXES", multiple=True, help="A plan by hand: batch=data or mlp=data,model."
    )(command)


def constraint_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --pin and --forbid, which the search keeps to."""
    command = click.option(
        "--forbid", metavar="NAME=AXES", multiple=True, help="Mesh axes that a name does not take: vocab=model."
    )(command)
    return click.option(
        "--pin",
        metavar="NAME=AXES",
        multiple=True,
        help="Find the best plan in which a name is sharded over just these mesh axes, in use or at rest: embed=data; "
        "or that stores some kinds of state, or whichever are best: stored=gradients,optimizer or stored=any; likewise "
        "remat=full (or none, or names that are kept), attention=ring, microbatches=4, moments=bfloat16, "
        "gradients=bfloat16, padding=vocab for an axis "
        "that the mesh does not divide, and network=usual or network=data:4x4x1,model:1x1x4 for the part of the "
        "physical network that each mesh axis has.",
    )(command)


def constraints(pin: Sequence[str], forbid: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """What is pinned and forbidden; only what there is.

    Raises:
        UserError: an option is not NAME=AXES, or a name is pinned twice.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for each in pin:
        name, over = assigned(each, "--pin", empty=True)
        pinned = found.setdefault("pin", {})
        if name in pinned:
            raise errors.pinned_twice(name, ",".join(pinned[name]), over)
        if not over:
            raise errors.pinned_to_nothing(name)
        pinned[name] = _listed(over)
    for each in forbid:
        name, over = assigned(each, "--forbid")
        forbidden = found.setdefault("forbid", {})
        forbidden[name] = [*forbidden.get(name, []), *_listed(over)]
    return found


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def rules_by_hand(compute: Sequence[str], storage: Sequence[str]) -> tuple[Rules, Rules]:
    """The sharding rules of a plan by hand. Raises `UserError` for what is not NAME=AXES."""
    first, second = (
        {axis: over.split(",") for axis, over in (assigned(each, option) for each in given)}
        for option, given in (("--compute", compute), ("--storage", storage))
    )
    return first, second


def assigned(text: str, option: str, empty: bool = False) -> tuple[str, str]:
    """The two sides of NAME=VALUE. Raises `UserError` where it is not that, or the value is `empty` and may not be."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and (value or empty)):
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


def devices_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --devices, in place of --mesh."""
    return click.option(
        "--devices",
        type=click.IntRange(min=1),
        metavar="N",
        help="In place of --mesh: the planner chooses the mesh of so many devices on which the step is fastest.",
    )(command)


def only_devices(devices: int | None, others: Mapping[str, str | None]) -> None:
    """Whether --devices stands alone. Raises `UserError` where another option says which mesh it is."""
    for option, given in others.items():
        if devices is not None and given:
            raise errors.devices_beside(devices, option, given)


def verify_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --verify, which stands alone or has one or several of `VERIFIED` behind it."""
    return click.option(
        "--verify",
        is_flag=False,
        flag_value=VERIFIED[0],
        metavar="[=WHAT]",
        callback=_verify,
        help="Compile the step for the mesh and compare with the plan (=compiled, meant by --verify alone); or compute "
        "it exactly, on the mesh and on one device, and compare to the bit (=values); or both (=compiled,values).",
    )(command)


def load_config(
    ctx: click.Context, model: str | None, path: str | None, own: str | None = None, **shorthands: Any
) -> TrainConfig:
    """The configuration that a command line names, with its overrides.

    `own` is the place of the config of a model of the user's own: then --model or --config, if given, has the rest.
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
    source: Path | None = None
    if path is not None:
        source = Path(path)
    elif model is not None or own is None:
        source = config.find_model(model or config.DEFAULT_MODEL)
    given = [f"--{field.replace('__', '.')}={value}" for field, value in shorthands.items() if value is not None]
    return config.load(source, [*given, *ctx.args], own=own, options=option_names(ctx))


def load_model(ctx: click.Context, name: str, mesh: str | None, batch: int) -> Loaded:
    """The trained model that a command line names, on the devices of `mesh`, with the overrides of the command line.
    What the command compiles is kept from here to its end.

    Args:
        name: a run directory, a checkpoint, or a Hugging Face folder or id.
        batch: how many texts it will read at once.

    Raises:
        UserError: there is no such model, or anything is wrong with it.
    """
    from levanter.cli import devices
    from levanter.compiler.question import parse_mesh

    if mesh is not None:
        devices.prepare(parse_mesh(mesh))
    from levanter.inference import loaded
    from levanter.runtime import compile_cache

    # One device, unless told so: what the run was trained on need not be here.
    here = [f"--trainer.mesh={mesh or 'null'}", "--trainer.plan=null"]
    source = loaded.find(name, [*here, *ctx.args], option_names(ctx))
    if mesh is not None:
        devices.require(source.config.mesh)
    ctx.with_resource(compile_cache.used(source.config.trainer.compile_cache))
    return loaded.load_model(source, batch, notify=lambda line: print(line, file=sys.stderr))


def option_names(ctx: click.Context) -> list[str]:
    """The command's own options, for suggesting one where an override is unknown."""
    return [option.removeprefix("--") for param in ctx.command.params for option in param.opts]


def _mesh(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        from levanter.compiler.question import parse_mesh

        parse_mesh(value)
    return value


def _verify(ctx: click.Context, param: click.Parameter, value: str | None) -> frozenset[str]:
    """The words behind --verify. A step that follows it, with a space, is none of them."""
    if value is None:
        return frozenset()
    if set(value) & set(":."):
        ctx.args.append(value)
        return frozenset(VERIFIED[:1])
    words = [word.strip() for word in value.split(",")]
    for word in words:
        if word not in VERIFIED:
            raise errors.nothing_to_verify(word, VERIFIED)
    return frozenset(words)
