"""`levanter data`: build, list and verify the token cache."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from levanter.cli.group import Group
from levanter.cli.options import OVERRIDES, ConfigCommand, config_options, debug, load_config

_CACHE = click.option(
    *("--cache-dir", "--data.cache_dir"),
    "cache_dir",
    metavar="PATH",
    help="Folder of the cache. Left out: ~/.cache/levanter-compiler.",
)


@click.group(cls=Group)
def data() -> None:
    """Tokenize text ahead of a run; list and verify it."""


@data.command(cls=ConfigCommand, context_settings=OVERRIDES)
@config_options
@click.pass_context
def build(ctx: click.Context, model: str | None, path: str | None) -> None:
    """Tokenize the text of a configuration, or find that done.

    A build that was killed is taken up where it was. Fields are set as for `train`: --data.type jsonl …
    """
    config = load_config(ctx, model, path)
    from levanter import data as text
    from levanter.data.block_data import build_whole

    build_whole(config.data, lambda line: print(line, file=sys.stderr, flush=True))
    tokens = text.build(config.data, seq_len=config.model.seq_len, seed=0, batch_size=1)
    print(f"training text   {tokens.num_train_tokens:,} tokens, {tokens.num_train_windows:,} sequences")
    print(f"held-out text   {tokens.num_heldout_tokens:,} tokens, {tokens.num_heldout_windows:,} sequences")
    for identity in tokens.corpora or (tokens.identity,):  # conversations are kept apart, and not listed
        print(f"identity        {identity}")


@data.command("ls")
@_CACHE
@debug
def ls(cache_dir: str | None) -> None:
    """List the tokenized corpora of a cache."""
    from rich.console import Console
    from rich.table import Table

    from levanter.data.stored import corpora

    table = Table("identity", "source", "training tokens", "held-out tokens", "made", box=None, pad_edge=False)
    for each in corpora(_folder(cache_dir)):
        table.add_row(each.identity[:12], each.source, f"{each.train:,}", f"{each.heldout:,}", each.day)
    console = Console()
    if table.row_count:
        console.print(table)
    else:
        print(f"no tokens in {_folder(cache_dir)}")


@data.command()
@click.argument("identities", nargs=-1, metavar="[IDENTITY…]")
@_CACHE
@debug
def verify(identities: tuple[str, ...], cache_dir: str | None) -> None:
    """Read tokenized corpora whole and hold them against their checksums: all of a cache, or those that are named.

    Exits with 1 if one is damaged. The next run that needs it makes it again.
    """
    from levanter.data.stored import verified

    for line in verified(_folder(cache_dir), identities):
        print(line, flush=True)
    sys.stdout.flush()


def _folder(cache_dir: str | None) -> Path:
    from levanter.data.cache import cache_dir_of

    return cache_dir_of(cache_dir)
