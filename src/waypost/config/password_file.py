"""A password that stands in a file of its own, alone on its first line, so that the configuration has no secrets."""

from pathlib import Path

_LONGEST = 4096


def read_password(path: Path) -> str:
    """Return the password in a file. Raises `OSError`, or `ValueError` with what the file has or is.

    No error has the password in it.
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
