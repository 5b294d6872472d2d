"""Folding: a header field that we write, in lines of at most 78 octets (RFC 5322 sections 2.1.1 and 2.2.3)."""

import re

_WIDTH = 78
_MOST = 998  # octets of a line, at most (RFC 5322 2.1.1)
_NAME = re.compile(r"[!-9;-~]+")
_UNSAFE = re.compile(r"[^\t -~]")


def folded(name: str, value: str) -> bytes:
    """Return a field with its line ends: `Name: value`, folded at white space.

    A character that is neither printable ASCII nor white space becomes `?`, and so does a line end: the value may quote
    a stranger. A word that is longer than a line gets its own line, and is cut at the longest legal line. Raises
    `ValueError` for a name that is not a field name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header field")
    lines: list[str] = []
    line = f"{name}:"
    for word in _UNSAFE.sub("?", value).split():
        if len(line) + 1 + len(word) > _WIDTH and (lines or line != f"{name}:"):
            lines.append(line)
            line = ""
        line += " " + word
        while len(line) > _MOST:
            lines.append(line[:_MOST])
            line = " " + line[_MOST:]
    lines.append(line)
    return "".join(f"{one}\r\n" for one in lines).encode("ascii")
