"""`levanter export`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from levanter.cli import errors
from levanter.cli.options import debug

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@click.command(name="export")
@click.argument("run_dir")
@click.argument("path")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of the tensors. Left out: as the weights were imported, or float32.",
)
@click.option(
    "--max-shard-size", metavar="SIZE", default="50GB", show_default=True, help="The most bytes of tensors in one file."
)
@click.option("--adapter", is_flag=True, help="Write the run's adapter alone, as peft reads it.")
@debug
def export_command(run_dir: str, path: str, dtype: str | None, max_shard_size: str, adapter: bool) -> None:
    """Write a run as a Hugging Face model folder.

    It has the newest checkpoint, and everything that `transformers` needs to load it. An adapter is merged into the
    weights, or written alone with --adapter.
    """
    most = _bytes(max_shard_size)

    from levanter.hf.runs import export_run

    checkpoint, written = export_run(Path(run_dir), Path(path), dtype=dtype, max_shard_bytes=most, adapter=adapter)
    print(f"exported {checkpoint} to {path} ({written})")


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([kmg]i?b|)", text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise errors.not_a_size(text)
    return int(found[1]) * _UNITS[found[2].upper()]
