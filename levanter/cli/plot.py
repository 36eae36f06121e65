"""`levanter plot`."""

from __future__ import annotations

from pathlib import Path

import click

from levanter.cli.options import debug


@click.command("plot")
@click.argument("run_dirs", metavar="RUN_DIR...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="curves.html",
    show_default=True,
    help="Where to draw: FILE.html, which needs nothing else to be looked at, or .png, .svg, .pdf.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="A key of metrics.jsonl, such as loss or 'gradient_norm/*'; as often as you like. Left out: the usual ones.",
)
@click.option("--over", type=click.Choice(["step", "hours"]), default="step", show_default=True, help="The x axis.")
@click.option("--smooth", type=click.IntRange(1), default=1, metavar="N", help="Draw the mean of the last N records.")
@debug
def plot_command(run_dirs: tuple[str, ...], output: str, metrics: tuple[str, ...], over: str, smooth: int) -> None:
    """Draw the curves of one or several runs.

    A chart for each metric, a line for each run.

    \b
    levanter plot runs/gpt2_nano -o loss.html
    levanter plot runs/first runs/second --metric loss --metric heldout_loss -o both.png
    """
    from levanter.runtime.plots import curves, write

    write(curves([Path(each) for each in run_dirs], metrics, over, smooth), Path(output), over)
    print(output)
