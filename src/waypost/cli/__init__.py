"""The command line: one file a command, each imported only when it is used, so that `waypost --help` is quick.

A command is an object of the same name as its file or folder: `cli/trace.py` has `trace`, `cli/queue/` has `queue`.
"""

import importlib
import io
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from waypost.standard_streams import fill_standard_streams, is_of_output

COMMANDS = {
    "init": "Make a configuration, a data directory and a certificate for a new host.",
    "check": "Check the configuration: every error by file, line and key.",
    "serve": "Run the service.",
    "reload": "Make the running service read its configuration again.",
    "status": "Show whether the service runs, and what it does.",
    "domain": "List the hosted domains.",
    "account": "Add, list, change and remove accounts.",
    "alias": "Add, list and remove aliases, groups and catch-alls.",
    "session": "List the connected clients, and end sessions.",
    "settings": "Print the settings for a mail program.",
    "queue": "Show and change the mail that waits to be delivered.",
    "trace": "Show the whole way of one message.",
    "storage": "Look after the stored messages.",
    "backup": "Back up the storage while the service runs, and verify backups.",
    "restore": "Restore a backup.",
    "send": "Compose and submit a message.",
    "fetch": "Read a mailbox by POP3.",
    "lab": "Show how mail goes between two hosts on loopback addresses.",
    "completion": "Print the completion script for a shell.",
}
"""Every command with its line in `waypost --help`, in the order of the help."""

_SEE_ACCOUNT = "an account is what can log in: waypost account --help"
_SEE_LOG = "the service writes its log to the standard error stream; with systemd: journalctl -u waypost -o cat"
_HINTS = {
    "start": "the service is started by systemctl start waypost, or in a terminal by waypost serve",
    "run": "the service is started by systemctl start waypost, or in a terminal by waypost serve",
    "stop": "the service is stopped by systemctl stop waypost, or by Ctrl-C where waypost serve runs",
    "restart": "systemctl restart waypost; for a changed configuration, waypost reload is enough",
    "help": "waypost --help shows all commands, waypost COMMAND --help one of them",
    "version": "waypost --version shows the version",
    "config": "the configuration is one file, waypost.toml; waypost check reads it",
    "log": _SEE_LOG,
    "logs": _SEE_LOG,
    "user": _SEE_ACCOUNT,
    "users": _SEE_ACCOUNT,
    "mailbox": _SEE_ACCOUNT,
    "passwd": "waypost account passwd ADDRESS",
    "list": "waypost account list, alias list, domain list, queue list or session list",
}
"""What to do instead, by words that people try as commands."""

_NEAR = 0.72  # of 1: how alike a mistyped command is


class _Commands(click.Group):
    """A group that knows its commands by name and imports the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"waypost.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and args[0][:1].isalpha() and not ctx.resilient_parsing:
            import difflib

            if args[0] in _HINTS:
                ctx.fail(f"There is no such command: {_HINTS[args[0]]}.")
            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=_NEAR)
            ctx.fail(f'There is no command "{args[0]}".' + (f' Did you mean "{near[0]}"?' if near else ""))
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not all(map(str.isascii, rest)) and not ctx.resilient_parsing:
            from waypost.cli.arguments import check_text

            check_text(ctx, command, rest)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; if a configuration was given without --config, say how to name it."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if "unexpected extra argument" in error.message and ".toml" in error.message:
                words = f"{error.message}; name a configuration with --config FILE"
                raise click.UsageError(words, error.ctx) from None
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=words) for name, words in COMMANDS.items() if name.startswith(incomplete)]
        return found if not incomplete.startswith("-") else super().shell_complete(ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from waypost import __version__

        click.echo(f"waypost {__version__}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def program() -> None:
    """Waypost, a complete mail system in one program."""


def main() -> None:
    """Run the program with the arguments of the process; exits with 0, 1 for a problem, 2 for wrong usage.

    A character that the terminal's charset lacks is always written as an escape. If the output can't be written (the
    disk is full), one line says so.
    """
    fill_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(program(prog_name="waypost"))
    except OSError as error:
        if not is_of_output(error):
            raise
        sys.exit(f"waypost: the output can't be written: {error.strerror}")
