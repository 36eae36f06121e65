"""A group of commands that names the nearest one where a command is mistyped."""

from __future__ import annotations

import click

from levanter.cli import errors


class Group(click.Group):
    """`click.Group`, with our wording for an unknown command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise errors.unknown_command(args[0], self.list_commands(ctx), ctx.command_path)
        return super().resolve_command(ctx, args)
