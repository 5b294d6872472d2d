"""Groups of commands: their help shows each line whole, and an unknown command is answered with the right one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

_WHOLE = 1000  # characters


class CommandGroup(click.Group):
    """A group of commands. For words that people wrongly try as commands, `hints` say what to do instead."""

    def __init__(self, *arguments: Any, hints: Mapping[str, str] | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._hints = dict(hints or {})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names; raise click's errors, with the hints."""
        if args[0] in self._hints and args[0] not in self.commands and not ctx.resilient_parsing:
            ctx.fail(f"There is no such command: {self._hints[args[0]]}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their lines, uncut."""
        rows = [(name, self.commands[name].get_short_help_str(_WHOLE)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
