"""`levanter train`."""

from __future__ import annotations

from pathlib import Path

import click

from levanter.cli.options import (
    OVERRIDES,
    ConfigCommand,
    config_options,
    load_config,
    mesh_option,
    own_option,
    place_given,
)
from levanter.cli.process_options import process_options


@click.command(cls=ConfigCommand, context_settings=OVERRIDES)
@own_option
@config_options
@mesh_option
@click.option(
    "--run-dir",
    metavar="PATH",
    help="Where the run is kept. Left out: runs/NAME, or beside it if that holds another run.",
)
@process_options
@click.pass_context
def train(
    ctx: click.Context,
    own: str | None,
    model: str | None,
    path: str | None,
    mesh: str | None,
    run_dir: str | None,
    coordinator: str | None,
    processes: str | None,
    process_id: int | None,
) -> None:
    """Train a model, or resume a run.

    Started again with the same command, a run resumes from its last checkpoint. Every field of the configuration
    can be set by its dotted name, such as --optimizer.learning_rate 1e-3; `levanter config` prints them all.
    FILE.py:CONFIG, or MODULE:CONFIG, is the config of a model of your own; --model or --config then have the rest.
    """
    from levanter.cli import devices
    from levanter.processes.starting import launch_of, processes_of, start

    given: tuple[str, ...] = ctx.obj or ("train",)
    own = place_given(ctx, own)
    tokenizer = None
    if run_dir is not None and (model, path, own) == (None,) * 3:
        path, tokenizer = _imported(run_dir)
        if path is not None:
            given = (*given, "--config", path)  # so that what is printed to try next knows the model
    config = load_config(ctx, model, path, own, trainer__mesh=mesh, trainer__run_dir=run_dir, data__tokenizer=tokenizer)
    launch = launch_of(coordinator, processes, process_id)
    if config.trainer.mesh is not None:
        devices.prepare(config.mesh, processes_of(launch))
    if launch is not None:
        start(launch)
    if config.trainer.mesh is not None:
        devices.require(config.mesh)

    from levanter.runtime.command import Command
    from levanter.runtime.trainer import train as run

    run(config, command=Command(given))


def _imported(run_dir: str) -> tuple[str | None, str | None]:
    """The config and the tokenizer of a run directory that `levanter import` made; None where it did not."""
    from levanter.hf.kept import kept_folder, origin_of
    from levanter.runtime.run_directory import CONFIG

    run = Path(run_dir)
    if origin_of(run) is None:
        return None, None
    kept = kept_folder(run)
    # Named apart from the config, because data of another kind leave nothing of its section.
    return str(run / CONFIG), kept.source if kept.has_tokenizer else None
