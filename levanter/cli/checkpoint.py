"""`levanter checkpoint`: what checkpoints there are, whether they are whole, and their arrays in other forms."""

from __future__ import annotations

from pathlib import Path

import click

from levanter.cli.group import Group
from levanter.cli.options import debug
from levanter.errors import UserError


@click.group(cls=Group)
def checkpoint() -> None:
    """List, verify, export and convert checkpoints.

    PATH is a checkpoint (step-N), or a run directory or a folder of checkpoints, which mean the newest one in them; a
    folder on this machine or a URL (s3://, gs://).
    """


@checkpoint.command("ls")
@click.argument("path")
@debug
def list_(path: str) -> None:
    """List the checkpoints of a run, oldest first: step, when it was written, size, arrays, format.

    Only the manifests are read; `verify` reads the values.
    """
    from levanter.checkpoint.listing import listing

    print(listing(path))


@checkpoint.command()
@click.argument("path")
@click.option("--all", "every", is_flag=True, help="Verify every checkpoint of the run, not the newest alone.")
@debug
def verify(path: str, every: bool) -> None:
    """Compare every byte of a checkpoint with its checksums.

    Exit code 2 where one is damaged, or another step's; the array and the file are named.
    """
    from levanter.checkpoint import resolve
    from levanter.checkpoint import verify as verified
    from levanter.checkpoint.listing import checkpoints_of, size

    problems: list[str] = []
    for each in checkpoints_of(path) if every else [resolve(path)]:
        try:
            manifest = verified(each)
        except UserError as problem:
            problems.append(str(problem))
        else:
            print(f"{each}: whole ({len(manifest.arrays)} arrays, {size(manifest.nbytes)})")
    if problems:
        raise UserError("\n".join(problems))


@checkpoint.command()
@click.argument("path")
@debug
def digest(path: str) -> None:
    """Print one SHA-256 over all arrays of a checkpoint: the same for the same weights, whatever mesh wrote them."""
    from levanter.checkpoint import digest as checkpoint_digest

    print(checkpoint_digest(path))


@checkpoint.command()
@click.argument("path")
@click.option("--output", "-o", required=True, metavar="FILE", help="A new file: .safetensors or .npz.")
@click.option("--part", default="", metavar="PREFIX", help="Only arrays whose names begin so, such as model.")
@debug
def export(path: str, output: str, part: str) -> None:
    """Write the arrays of a checkpoint, by their names, as one file that other programs read.

    `levanter export` writes a model folder for Hugging Face instead.
    """
    from levanter.checkpoint import resolve
    from levanter.checkpoint.exporting import export as exported

    source = resolve(path)
    names = exported(source, Path(output), part)
    print(f"{output}: {len(names)} arrays of {source}")


@checkpoint.command()
@click.argument("path")
@click.option("--output", "-o", required=True, metavar="FOLDER", help="Where step-N is made, a folder or a URL.")
@debug
def convert(path: str, output: str) -> None:
    """Write a checkpoint of an older format in the newest one. Its digest stays the same."""
    from levanter.checkpoint import resolve
    from levanter.checkpoint.exporting import convert as converted

    print(converted(resolve(path), output))
