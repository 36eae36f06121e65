"""`levanter compile`: plan a training step for a mesh, explain the plan, and check it against the compiler."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from levanter.cli import errors
from levanter.cli.options import (
    DEFAULT_HARDWARE,
    OVERRIDES,
    ConfigCommand,
    config_options,
    constraint_options,
    constraints,
    devices_option,
    hardware_option,
    is_own_config,
    json_option,
    load_config,
    mesh_option,
    of_a_run,
    only_devices,
    place_given,
    plan_option,
    plan_options,
    rules_by_hand,
    size_options,
    step_options,
    target_of,
    verify_option,
    without_accelerator,
)

if TYPE_CHECKING:
    from levanter.compiler.meshes import MeshChoice
    from levanter.compiler.target import Target
    from levanter.config import TrainConfig

EMITTED = ("levanter", "maxtext", "flax", "partition-specs")
"""What --emit can write (`passes.foreign.emit.FORMATS`)."""

PLAIN_WIDTH = 120


@click.command("compile", cls=ConfigCommand, context_settings=OVERRIDES)
@step_options
@config_options
@mesh_option
@devices_option
@hardware_option
@plan_options
@plan_option
@click.option("--save-plan", metavar="FILE", help="Write the plan as a YAML file, to review, edit and train by.")
@click.option(
    "--emit",
    type=click.Choice(EMITTED),
    help="Print the plan as sharding rules of another system, and nothing else.",
)
@constraint_options
@click.option(
    "--html",
    metavar="FILE",
    help="Write the plan as a page to look at, in which names can be moved to other mesh axes and all is priced anew.",
)
@click.option(
    "--explain",
    metavar="NAME",
    multiple=True,
    help="Say why a name is where it is, and what each alternative would cost, and why.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Take the best plan found by then; left out, the search goes on until the optimum is proven.",
)
@size_options
@json_option
@click.option("--dump-ir", metavar="DIR", help="Write the graph after each pass to a file in DIR.")
@verify_option
@click.option(
    "--platform",
    type=click.Choice(["cpu", "tpu", "gpu"]),
    default="cpu",
    show_default=True,
    help="What to compile for: CPU devices, or ahead of time the TPU slice or the GPUs of --hardware.",
)
@of_a_run
@click.option(
    "--partitioner",
    type=click.Choice(["explicit", "xla"]),
    default="explicit",
    help="What --verify is about: the printed program, or what XLA's partitioner makes of the layout.",
)
@click.pass_context
def compile_command(
    ctx: click.Context,
    step: str | None,
    arguments: str | None,
    names: str | None,
    model: str | None,
    path: str | None,
    mesh: str | None,
    devices: int | None,
    hardware: str | None,
    compute: tuple[str, ...],
    storage: tuple[str, ...],
    plan: str | None,
    save_plan: str | None,
    emit: str | None,
    pin: tuple[str, ...],
    forbid: tuple[str, ...],
    html: str | None,
    explain: tuple[str, ...],
    time_limit: float | None,
    batch_size: str | None,
    seq_len: str | None,
    as_json: bool,
    dump_ir: str | None,
    verify: frozenset[str],
    platform: str,
    partitioner: str,
) -> None:
    """Plan a training step for a mesh and explain it.

    The step is that of a configuration (also MODULE:CONFIG, the config of a model of your own), or MODULE:FUNCTION,
    any JAX step with FUNCTION_arguments and, for raw arrays, FUNCTION_names beside it; MODULE may be the path of a
    file (see `levanter names`). No accelerator is needed, neither to plan nor to --verify. Every field of a
    configuration can be set by its dotted name, such as --model.num_layers 24.
    """
    without_accelerator()
    only_devices(
        devices, {"--mesh": mesh, "--plan": plan, "--compute": " ".join(compute), "--storage": " ".join(storage)}
    )
    if platform != "cpu" and not verify:
        raise errors.platform_without_verify(platform)
    place = place_given(ctx, step)
    # What libraries print on the way must not end up in front of the JSON.
    with contextlib.redirect_stdout(sys.stderr):
        own = place if is_own_config(place) else None
    of_configurations = {} if own else {"model": model, "path": path, "batch_size": batch_size, "seq_len": seq_len}
    target = target_of(ctx, None if own else place, arguments, names, "plan", **of_configurations)
    by_hand, searched = rules_by_hand(compute, storage), constraints(pin, forbid)
    config: Any = None
    if target is None:
        config = load_config(
            ctx,
            model,
            path,
            own,
            trainer__mesh=mesh,
            trainer__hardware=hardware,
            trainer__plan=plan,
            trainer__train_batch_size=batch_size,
            model__seq_len=seq_len,
        )
    folder = _made(dump_ir) if dump_ir is not None else None
    with contextlib.redirect_stdout(sys.stderr):
        how = _asked(verify, platform, partitioner) | {"dump_ir": folder, **searched}
        how |= {"by_hand": by_hand} if any(by_hand) else {}  # left out, the planner chooses
        how |= {"explain": explain} if explain else {}
        how |= {"time_limit": time_limit} if time_limit is not None else {}
        choice = _mesh_of(devices, target, config, hardware, {"time_limit": time_limit, **searched})
        if choice is not None:
            mesh = str(choice.mesh)
            config = _with_mesh(config, mesh)
        if target is None:
            name = place if own else model or Path(path or config.trainer.run_name or "").stem
            how |= _plan_file(name or "", save_plan, html, emit, config.trainer.plan is not None)
            result = {"model": name, **_of_config(config, how)}
        else:
            how |= _plan_file(target.step, save_plan, html, emit, plan is not None)
            result = _of_step(target, mesh, hardware, plan, how)
        if choice is not None:
            from levanter.compiler.meshes import rows

            result["meshes"] = rows(choice.tried)
    if emit is not None and not as_json:
        print(result["emitted"], end="")
    else:
        _print(result, as_json)
    _check(result)


def _asked(verify: frozenset[str], platform: str, partitioner: str) -> dict[str, Any]:
    """What is to be verified, and by which compiler; of the choices those that are not the usual ones."""
    asked: dict[str, Any] = {"verify": "compiled" in verify}
    asked |= {"values": True} if "values" in verify else {}
    asked |= {"platform": platform} if platform != "cpu" else {}
    return asked | ({"partitioner": partitioner} if partitioner != "explicit" else {})


def _check(result: dict[str, Any]) -> None:
    """Raise where what was verified is not as predicted."""
    if "verify" in result and (count := len(result["verify"]["surprises"])):
        raise errors.surprises(count)
    if "values" in result and (different := result["values"]["different"]):
        raise errors.values_differ(len(different), result["values"]["outputs"])


def _mesh_of(
    devices: int | None, target: Target | None, config: Any, hardware: str | None, how: dict[str, Any]
) -> MeshChoice | None:
    """The mesh that is chosen for so many devices; None where there is nothing to choose."""
    if devices is None:
        return None
    from levanter.compiler.meshes import mesh_for_config, mesh_for_step

    if target is None:
        return mesh_for_config(config, devices, config.trainer.hardware, **how)
    return mesh_for_step(target, devices, hardware or DEFAULT_HARDWARE, **how)


def _with_mesh(config: Any, mesh: str) -> Any:
    """The configuration on another mesh; None for a step that has none."""
    return config and replace(config, trainer=replace(config.trainer, mesh=mesh))


def _of_config(config: TrainConfig, how: dict[str, Any]) -> dict[str, Any]:
    from levanter.compiler.compile import report

    return report(config, mesh=config.mesh.as_dict(), hardware=config.trainer.hardware, **how)


def _of_step(
    target: Target, mesh: str | None, hardware: str | None, plan: str | None, how: dict[str, Any]
) -> dict[str, Any]:
    from levanter.compiler.question import parse_mesh, read_plan
    from levanter.compiler.user_step import report

    layout = parse_mesh(mesh)
    if plan is not None:
        given = read_plan(plan, plan)
        layout, hardware = parse_mesh(mesh or given.mesh), hardware or given.hardware
        if layout != parse_mesh(given.mesh):
            raise errors.plan_of_another_mesh(plan, given.mesh, str(layout))
        how = {**how, "plan": given}
    return report(target, layout.as_dict(), hardware or DEFAULT_HARDWARE, **how)


def _plan_file(model: str, save: str | None, html: str | None, emit: str | None, given: bool) -> dict[str, Any]:
    """What is asked about files of the plan; nothing where there are none."""
    from levanter.compiler.plan_files import PlanFile

    saved, page = (Path(each) if each is not None else None for each in (save, html))
    return {"plan_file": PlanFile(model, saved, page, emit)} if given or emit or saved or page else {}


def _made(path: str) -> Path:
    """The folder at `path`, made where it is missing."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.cannot_make_folder(path, error) from None
    return Path(path)


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    from rich.console import Console

    from levanter.compiler.report import compile_tables

    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    # Written by us and not by rich, which ends the process its own way when the reader of a pipe has gone.
    with console.capture() as captured:
        compile_tables(result, console)
    print(captured.get(), end="")
