"""`levanter config`: the configuration as a command would see it."""

from __future__ import annotations

import click

from levanter.cli.options import OVERRIDES, config_options, load_config


@click.command("config", context_settings=OVERRIDES)
@config_options
@click.pass_context
def config_command(ctx: click.Context, model: str | None, path: str | None) -> None:
    """Print a configuration, every field resolved."""
    from levanter.config import dump

    print(dump(load_config(ctx, model, path)), end="")
