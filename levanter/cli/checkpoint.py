"""`levanter checkpoint`: inspect checkpoints."""

from __future__ import annotations

from pathlib import Path

import click

from levanter.cli.group import Group
from levanter.cli.options import debug


@click.group(cls=Group)
def checkpoint() -> None:
    """Look into checkpoints."""


@checkpoint.command()
@click.argument("path")
@debug
def digest(path: str) -> None:
    """Print one SHA-256 over all arrays of a checkpoint: the same for the same weights, whatever mesh wrote them."""
    from levanter.checkpoint import digest as checkpoint_digest

    print(checkpoint_digest(Path(path)))
