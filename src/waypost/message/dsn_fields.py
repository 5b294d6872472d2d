"""Makes text of others safe for a report: it can't end a line, start a field, or steer a terminal.

Header and status fields are written here, folded (RFC 5322 2.2.3) and never longer than a line of mail may be.
"""

import binascii

LONGEST_LINE = 998  # octets, RFC 5322 2.1.1
_WIDTH = 76
_LONGEST_WORD = 900  # octets; a longer one is broken, so that its line stays under the limit
_LONGEST_WORDS = 2000  # characters of a peer's reply


def neutral(text: str, limit: int = _LONGEST_WORDS) -> str:
    """Return text as one line of printable characters; everything else becomes a space or a question mark.

    `str.isprintable` refuses line and paragraph separators, control characters, bidirectional overrides and lone
    surrogates.
    """
    if len(text) > limit:
        text = text[:limit] + " ..."
    return printable(" ".join(text.split()))


def ascii_only(text: str) -> str:
    """Return text with every character outside ASCII written as an escape such as `\\u00e9`."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def printable(text: str) -> str:
    """Return text with a question mark for each character that is neither printable nor a space."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


def field(name: str, value: str) -> str:
    """Return a field with its line end, folded between words."""
    line, lines = f"{name}:", []
    for number, word in enumerate(_short_words(neutral(value, limit=8 * LONGEST_LINE))):
        if number and len(line.encode()) + len(word.encode()) >= _WIDTH:
            lines.append(line)
            line = ""
        line += " " + word
    return "\r\n".join([*lines, line]) + "\r\n"


def whole_field(name: str, value: str) -> str:
    """Return a field on one line, as addresses must stand; one that is too long for that is folded."""
    words = printable(value)
    return f"{name}: {words}\r\n" if len(words.encode()) <= _LONGEST_WORD else field(name, words)


def _short_words(text: str) -> list[str]:
    words: list[str] = []
    for word in text.split(" "):
        while len(word.encode()) > _LONGEST_WORD:
            words.append(word[: _LONGEST_WORD // 4])  # a character has at most four octets
            word = word[_LONGEST_WORD // 4 :]
        words.append(word)
    return words


def quoted_printable(data: bytes) -> bytes:
    """Return data in quoted-printable (RFC 2045 6.7); its lines end with CRLF, also where data has bare CR or LF."""
    lines = (binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in data.split(b"\r\n"))
    return b"\r\n".join(lines)


def base64_lines(data: bytes) -> bytes:
    """Return data in base64 (RFC 2045 6.8), in lines of 76 characters."""
    step = 57
    lines = (binascii.b2a_base64(data[start : start + step], newline=False) for start in range(0, len(data), step))
    return b"\r\n".join(lines)


def passes_smtp(data: bytes) -> bool:
    """True when data has lines of at most 998 octets, ended by CRLF alone, and no NUL (RFC 5321 4.5.3.1.6)."""
    ends = data.count(b"\r\n")
    if data.count(b"\n") != ends or data.count(b"\r") != ends or b"\0" in data:
        return False
    return max(map(len, data.split(b"\r\n"))) <= LONGEST_LINE
