"""`levanter config`: the configuration as a command would see it."""

from __future__ import annotations

import click

from levanter.cli.options import OVERRIDES, ConfigCommand, config_options, load_config, own_option, place_given


@click.command("config", cls=ConfigCommand, context_settings=OVERRIDES)
@own_option
@config_options
@click.option("--explain", "with_meaning", is_flag=True, help="Say above each field what it means and what it can be.")
@click.pass_context
def config_command(
    ctx: click.Context, own: str | None, model: str | None, path: str | None, with_meaning: bool
) -> None:
    """Print a configuration, every field resolved.

    The output is YAML that --config reads. Every field can be set by its dotted name, such as --model.num_layers 24.
    FILE.py:CONFIG, or MODULE:CONFIG, is the config of a model of your own.
    """
    config = load_config(ctx, model, path, place_given(ctx, own))
    if with_meaning:
        from levanter.config.explain import explain

        print(explain(config), end="")
    else:
        from levanter.config import dump

        print(dump(config), end="")
