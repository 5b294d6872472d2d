"""Reads a password from its own file, where it is alone on the first line; so the configuration holds no secrets."""

from pathlib import Path

_LONGEST = 4096


def read_password(path: Path) -> str:
    """Return the password in a file. Raises `OSError`, or `ValueError` that says what is wrong with the file.

    No error holds the password.
    """
    with path.open("rb") as file:
        line = file.readline(_LONGEST + 2).rstrip(b"\r\n")
    if not line:
        raise ValueError("has an empty first line; write the password there")
    if len(line) > _LONGEST:
        raise ValueError(f"has more than {_LONGEST} octets in its first line; write the password there, alone")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 in its first line; save the file in this encoding") from None
