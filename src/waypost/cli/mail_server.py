"""The common parts of `send` and `fetch`: which servers to trust, and where the password comes from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from waypost.cli.frame import fail
from waypost.cli.terminal import echo

if TYPE_CHECKING:
    from waypost.client.places import ServerPlace
    from waypost.client.trust import Trust

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path)
_VARIABLE = "WAYPOST_PASSWORD"


def server_options(command: F) -> F:
    """Give a command `--ca`, `--insecure` and `--password-file`, as `ca`, `insecure` and `password_file`."""
    for option in (
        click.option(
            "--password-file",
            type=_FILE,
            metavar="FILE",
            help=f"The password is its first line. Default: ${_VARIABLE}, or a prompt.",
        ),
        click.option("--insecure", is_flag=True, help="Do NOT check the server's certificate."),
        click.option("--ca", type=_FILE, metavar="FILE", help="Trust this certificate (PEM), too."),
    ):
        command = option(command)
    return command


def trust(ca: Path | None, insecure: bool) -> Trust:
    """Return the servers to trust; warn when any server is trusted. Raises `ClientError`."""
    from waypost.client.trust import UNSAFE, Trust

    if insecure:
        echo(f"waypost: warning: {UNSAFE}", err=True)
    return Trust(ca=ca, insecure=insecure)


def password_source(place: ServerPlace, file: Path | None) -> Callable[[], str]:
    """Return a function that gets the password: from the file, the environment, or a prompt."""

    def password() -> str:
        if file is not None:
            return _first_line(file)
        return os.environ.get(_VARIABLE) or _ask(f"Password of {place.user} at {place.host}: ")

    return password


def _first_line(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as lines:
            line = lines.readline().rstrip("\r\n")
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{file}: it is not text in UTF-8")
    return line or fail(f"{file}: its first line is empty")


def _ask(question: str) -> str:
    import getpass

    try:
        with Path("/dev/tty").open("r+b", buffering=0):
            pass  # there is a terminal to ask on; standard input may be the message
    except OSError:
        fail(f"there is no password: set ${_VARIABLE}, or use --password-file")
    return getpass.getpass(question)
