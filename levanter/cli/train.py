"""`levanter train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from levanter.cli.lasting_output import lasting_output
from levanter.cli.options import (
    OVERRIDES,
    ConfigCommand,
    config_options,
    devices_option,
    load_config,
    mesh_option,
    only_devices,
    own_option,
    place_given,
    plan_option,
)
from levanter.cli.process_options import process_options
from levanter.processes.group import ALONE
from levanter.processes.starting import Launch, launch_of, processes_of, start, working
from levanter.runtime import errors
from levanter.runtime.command import Command
from levanter.runtime.stop import ProcessStop

if TYPE_CHECKING:
    from levanter.config import TrainConfig


@click.command(cls=ConfigCommand, context_settings=OVERRIDES)
@own_option
@config_options
@mesh_option
@devices_option
@plan_option
@click.option(
    "--run-dir",
    metavar="PATH",
    help="Where the run is kept. Left out: runs/NAME, or beside it if that holds another run.",
)
@process_options
@click.option(
    "--profile",
    metavar="FIRST:LAST",
    help="Trace these steps, such as 20:25, for XProf and Perfetto, into RUN_DIR/profile.",
)
@click.pass_context
def train(
    ctx: click.Context,
    own: str | None,
    model: str | None,
    path: str | None,
    mesh: str | None,
    devices: int | None,
    plan: str | None,
    run_dir: str | None,
    profile: str | None,
    coordinator: str | None,
    processes: str | None,
    process_id: int | None,
) -> None:
    """Train a model, or resume a run.

    Started again with the same command, a run resumes from its last checkpoint. Every field of the configuration
    can be set by its dotted name, such as --optimizer.learning_rate 1e-3; `levanter config` prints them all.
    FILE.py:CONFIG, or MODULE:CONFIG, is the config of a model of your own; --model or --config then have the rest.
    """
    given: tuple[str, ...] = ctx.obj or ("train",)
    only_devices(devices, {"--mesh": mesh, "--plan": plan})
    own = place_given(ctx, own)
    tokenizer = None
    if run_dir is not None and (model, path, own) == (None,) * 3:
        path, tokenizer = _imported(run_dir)
        if path is not None:
            given = (*given, "--config", path)  # so that what is printed to try next knows the model
    # Until something is trained there is nothing to save: a signal ends the command at once.
    with lasting_output(), ProcessStop() as stop:
        given_here = {"trainer__mesh": mesh, "trainer__run_dir": run_dir, "trainer__profile": profile}
        given_here |= {"trainer__plan": plan}
        config = load_config(ctx, model, path, own, **given_here, data__tokenizer=tokenizer)
        if devices is not None:
            given_here |= {"trainer__mesh": _chosen_mesh(config, devices)}
            config = load_config(ctx, model, path, own, **given_here, data__tokenizer=tokenizer)
        _train(config, Command(given), stop, launch_of(coordinator, processes, process_id))


def _chosen_mesh(config: TrainConfig, devices: int) -> str:
    """The mesh of so many devices on which the step is fastest; said in a line. It is planned in another process, since
    in this one JAX is not to be imported yet."""
    from levanter.compiler.verify.isolate import answer_in_child
    from levanter.config import dump

    request = {"config": dump(config), "devices": devices}
    answer = answer_in_child(request, devices=1, function="levanter.compiler.meshes:answer_mesh")
    print(errors.mesh_chosen(answer["mesh"], config.trainer.hardware, answer["tried"]), flush=True)
    return answer["mesh"]


def _train(config: TrainConfig, command: Command, stop: ProcessStop, launch: Launch | None) -> None:
    """The slow part. The run directory comes first: it refuses a second writer, and says how many CPU threads there
    are to be, before JAX is imported (or, in several processes, before it starts)."""
    from rich.console import Console

    from levanter.cli import devices
    from levanter.runtime import environment
    from levanter.runtime.opening import check_free, fixed_values, opened_run
    from levanter.runtime.record import CPU_THREADS
    from levanter.runtime.together import opened_by_the_first

    if config.trainer.mesh is not None:
        devices.prepare(config.mesh, processes_of(launch))
    if launch is not None:
        check_free(config)
    members = ALONE if launch is None else start(launch)
    console = Console(quiet=members.index > 0, emoji=False)
    with (
        working(members),
        opened_by_the_first(members, lambda: opened_run(config, console, command)) as run,
    ):
        threads, elastic = fixed_values(config, run)[CPU_THREADS], config.trainer.elastic
        # XLA's pool has a thread for each device of a process, or more. In several processes each gets as many as one
        # process would have.
        pool, here = max(threads, config.mesh.devices), max(environment.cores(), config.mesh.devices)
        if run.record.fixed and pool != here and not (config.trainer.cpu_threads or elastic):
            console.print(errors.threads_kept(threads, environment.cores()), highlight=False, soft_wrap=True)
        environment.fix_threads(pool if members.count > 1 else threads)
        if config.trainer.mesh is not None:
            devices.require(config.mesh)
        if elastic:
            devices.require_threads(threads, config.trainer.virtual_shards // 2)

        from levanter.runtime.trainer import train as run_training

        run_training(config, console, command, run, stop, threads=threads)


def _imported(run_dir: str) -> tuple[str | None, str | None]:
    """The config and the tokenizer of a run directory that `levanter import` made; None where it did not."""
    from levanter.runtime.run_directory import CONFIG, HUGGING_FACE

    run = Path(run_dir)
    if not (run / HUGGING_FACE).is_dir():
        return None, None
    from levanter.hf.kept import kept_folder, origin_of

    if origin_of(run) is None:
        return None, None
    kept = kept_folder(run)
    # Named apart from the config, because data of another kind leave nothing of its section.
    return str(run / CONFIG), kept.source if kept.has_tokenizer else None
