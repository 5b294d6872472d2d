"""The first account of a new host, and its password: typed, read from standard input, or generated.

Another process of this program makes the account; it gives up root for good and becomes the owner of the data. It gets
the password by a pipe: never by arguments, environment or log.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

from waypost.cli.init.files import write_new
from waypost.disk.files import exists

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without characters that look alike
_GROUPS, _LENGTH = 4, 5


def generated_password() -> str:
    """Return a password of 99 bits that can be read aloud: 20 letters and digits in groups of five."""
    groups = ["".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(_GROUPS)]
    return "-".join(groups)


class CommandFailed(Exception):
    """A command of this program failed; the message is its error."""


def accounts(config: Path, data: Path) -> list[str]:
    """Return the addresses of all accounts, the oldest first, without making a database if it is missing. Raises
    `CommandFailed`."""
    try:
        if not exists(data / "waypost.db"):
            return []
    except PermissionError:
        pass  # the command will name the owner of the directory
    listed = json.loads(_waypost(config, "account", "list", "--json"))
    return [each["address"] for each in sorted(listed, key=lambda each: str(each["created"]))]


def account_exists(config: Path, address: str) -> bool:
    """True when there is such an account. Raises `CommandFailed`."""
    listed = json.loads(_waypost(config, "account", "list", "--json"))
    return any(each["address"] == address for each in listed)


def make_account(config: Path, address: str, password: str) -> None:
    """Make the account. Raises `CommandFailed`."""
    _waypost(config, "account", "add", address, "--password-stdin", stdin=password + "\n")


def password_file(folder: Path, address: str) -> Path:
    """Return the file for the generated password of an account."""
    return folder / f"password-of-{address.replace('/', '_')}"


def write_password(folder: Path, address: str, password: str) -> Path:
    """Write a password into a new file that its owner alone can read; return the file. Raises `OSError`."""
    path = password_file(folder, address)
    write_new(path, f"{password}\n".encode(), 0o600)
    return path


def _waypost(config: Path, *arguments: str, stdin: str = "") -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "waypost", *arguments, "--config", str(config)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise CommandFailed(f"{sys.executable}: {error.strerror}") from None
    if done.returncode:
        raise CommandFailed(done.stderr.strip().removeprefix("waypost: ") or f"status {done.returncode}")
    return done.stdout
