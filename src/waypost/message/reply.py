"""A reply of a mail server as a value: code, enhanced status code and lines (RFC 5321 4.2, RFC 3463).

It stays this value from the engine that read it to the journal and the report, so that no code that classifies replies
has to parse text.
"""

import re

import msgspec

from waypost.message.dsn_fields import printable

_MOST_WORDS = 2000
"""Characters of a reply that are kept."""

_TEXT = re.compile(r"([2-5]\d\d)(?: ([245]\.\d{1,3}\.\d{1,3})(?= |\Z))?(?: (.*))?\Z", re.DOTALL)


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """A reply of one or more lines. `enhanced` is None only where RFC 2034 has none (220, EHLO, 3xx).

    `lines` hold printable text (UTF-8 only where the session allows it), never CR, LF or NUL.
    """

    code: int
    enhanced: str | None
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        """True for 2xx and 3xx."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """True for 4xx: the same command may succeed later."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """True for 5xx."""
        return self.code >= 500

    @property
    def text(self) -> str:
        """The lines as one, for logs and reports."""
        return " ".join(self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced + ' ' if self.enhanced else ''}{self.text}".rstrip()


def parse_reply(text: str) -> Reply | None:
    """Return the reply that `str` wrote as this text, its lines as one; None when the text is not a reply."""
    match = _TEXT.match(text)
    return None if match is None else Reply(int(match[1]), match[2], (match[3] or "",))


def kept_reply(reply: Reply) -> Reply:  # hot: bench/relay
    """Return a reply as it is kept: each line printable, spaces folded, all lines together of bounded length.

    Lines without words are dropped while another has some.
    """
    lines: list[str] = []
    room = _MOST_WORDS
    for line in reply.lines:
        words = printable(" ".join(line.split()))
        if len(words) > room:
            lines.append(words[: room - 1] + "…")
            break
        if words:
            lines.append(words)
            room -= len(words)
        if not room:
            break
    kept = tuple(lines) or ("",)
    return reply if kept == reply.lines else Reply(reply.code, reply.enhanced, kept)
