"""Refuses arguments that are not text. A shell may pass any octets; Python keeps those that are not UTF-8 as
surrogates, which neither the database nor a message can hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click


def is_text(argument: str) -> bool:
    """True when all octets of an argument are valid in the charset of the locale."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)


class File(click.Path):
    """The path of a file that the database's path depends on: text, and not empty.

    An empty path is refused: a script forgot to set a variable.
    """

    kind = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises `click.BadParameter`."""
        if value == "":
            self.fail(f"it is empty; name a {self.kind}", param, ctx)
        if not is_text(str(value)):
            self.fail("its name is not text in the charset of the locale, which the database needs", param, ctx)
        return super().convert(value, param, ctx)


class Folder(File):
    """The path of a folder that holds a database, or will hold one."""

    kind = "directory"


def check_text(ctx: click.Context, command: click.Command, arguments: Sequence[str]) -> None:
    """Refuse arguments of a command that are not text, except names of files. Raises `click.UsageError`.

    Other errors in the arguments are reported later, as usual.
    """
    if all(map(is_text, arguments)):
        return
    while isinstance(command, click.Group) and arguments and arguments[0] in command.commands:
        command, arguments = command.commands[arguments[0]], arguments[1:]
    within = command.context_class(command, parent=ctx, info_name=command.name, resilient_parsing=True)
    values, _, _ = command.make_parser(within).parse_args(list(arguments))
    for parameter in command.get_params(within):
        if isinstance(parameter.type, click.Path):
            continue
        for value in _texts(values.get(parameter.name or "")):
            if not is_text(value):
                name = parameter.get_error_hint(within)
                raise click.UsageError(f"Invalid value for {name}: it is not text in the charset of the locale", ctx)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
