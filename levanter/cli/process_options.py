"""Options of commands that run in several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def process_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --coordinator, --processes and --process-id."""
    command = click.option(
        "--process-id", type=int, metavar="I", help="The number of this process, from 0; the first writes and prints."
    )(command)
    command = click.option(
        "--processes",
        metavar="N",
        help="In how many processes the run trains; auto: as SLURM, Open MPI, GKE or the TPU pod say that started it.",
    )(command)
    return click.option(
        "--coordinator", metavar="HOST:PORT", help="Where the processes meet: the host of process 0 and a free port."
    )(command)
