"""`levanter import`."""

from __future__ import annotations

from pathlib import Path

import click

from levanter.cli.options import OVERRIDES, debug, option_names


@click.command(name="import", context_settings=OVERRIDES)
@click.argument("source", metavar="PATH_OR_ID")
@click.option("--run-dir", metavar="PATH", required=True, help="The run directory to make.")
@debug
@click.pass_context
def import_command(ctx: click.Context, source: str, run_dir: str) -> None:
    """Make a run that starts from a Hugging Face model.

    PATH_OR_ID is a folder with config.json and *.safetensors, or the id of one on the hub. `levanter train --run-dir
    PATH` then trains it, and any field can be set by its dotted name, here or there: --model.compute_dtype bfloat16.
    """
    from levanter.config import load_pretrained

    config = load_pretrained(source, ctx.args, options=option_names(ctx))

    from levanter.hf.runs import import_run

    origin = import_run(config, Path(run_dir))
    print(f"imported {source} ({origin.dtype}) into {run_dir} (config.yaml, checkpoints/step-0, hugging_face/)")
    print(f"train it with `levanter train --run-dir {run_dir}`, take it home with `levanter export {run_dir} FOLDER`")
