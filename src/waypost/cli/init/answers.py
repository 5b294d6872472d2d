"""The questions of `waypost init`: each is asked again until its answer can be used."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from waypost.cli.terminal import echo

_NO_ACCOUNT = ("-", "n", "no", "none")


def ask(question: str, proposal: str | None, checked: Callable[[str], str]) -> str:
    """Ask until `checked` accepts the answer, and return its result; its `ValueError` says what is wrong."""

    def value(text: str) -> str:
        try:
            return checked(text)
        except ValueError as error:
            raise click.UsageError(str(error)) from None  # click prints it and asks again

    return str(click.prompt(question, default=proposal, value_proc=value))


def ask_directory(usual: str) -> Path:
    """Ask for the directory of the host; `~` is the user's home, as in a shell."""

    def checked(text: str) -> str:
        directory = Path(text.strip()).expanduser().absolute()
        problem = directory_problem(directory)
        if problem is not None:
            raise ValueError(problem)
        return str(directory)

    return Path(ask("Directory for configuration and data", usual, checked))


def directory_problem(directory: Path) -> str | None:
    """Return why this user can't make a host in a directory, or use the host in it; None when no reason can be seen
    beforehand."""
    for place in (directory, *directory.parents):
        try:
            mode = place.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return f"{place}: {error.strerror}"
        if not stat.S_ISDIR(mode):
            return f"{place} is a file; a directory is needed there"
        return _no_entry(place, directory)
    return None


def _no_entry(place: Path, directory: Path) -> str | None:
    me = _own_name()
    help_ = "" if os.geteuid() == 0 else "; run it as root, or choose another directory"
    if not os.access(place, os.X_OK, effective_ids=True):
        return f"{place}: {me} may not enter it{help_}"
    if os.statvfs(place).f_flag & os.ST_RDONLY and not os.path.lexists(directory / "waypost.toml"):
        return f"{place}: the file system is mounted read-only"
    if not os.path.lexists(directory / "waypost.toml") and not os.access(place, os.W_OK, effective_ids=True):
        return f"{place}: {me} may not write there{help_}"
    return None


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a number without a name, as in a container
        return f"user {os.geteuid()}"


def ask_account(proposal: str, checked: Callable[[str], str]) -> str | None:
    """Ask for the address of an account; return None for the answer "-". `checked` is as in `ask`."""
    answer = ask(
        "Address of the first account ('-' for none)",
        proposal,
        lambda text: "-" if text.strip().lower() in _NO_ACCOUNT else checked(text.strip()),
    )
    return None if answer == "-" else answer


def ask_password() -> str:
    """Ask for a new password, twice; return "" when one should be generated."""
    from waypost.cli.account import password_problem

    while True:
        typed = str(click.prompt("Its password (empty: generate one)", default="", hide_input=True, show_default=False))
        problem = password_problem(typed) if typed else None
        if problem is not None:  # checked before the password is typed a second time
            echo(f"{problem}; please try another", err=True)
        elif not typed or click.prompt("The same again", hide_input=True) == typed:
            return typed
        else:
            echo("the two entries are not the same; please try again", err=True)


def account_key(text: str, domains: Sequence[str]) -> str:
    """Return the directory key of an account in one of these domains. Raises `ValueError` that says what is wrong."""
    from waypost.cli.addresses import not_hosted, parse_key

    key = parse_key(text)
    problem = not_hosted(key, domains)
    if problem is not None:
        raise ValueError(problem)
    return key
