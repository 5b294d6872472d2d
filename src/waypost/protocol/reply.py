"""SMTP replies as values: code, enhanced status code and text together (RFC 5321 4.2, RFC 3463, RFC 5248).

Every reply that Waypost gives stands in `protocol/smtp/replies.py`; nobody formats a code elsewhere.
"""

import msgspec


class Reply(msgspec.Struct, frozen=True):
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
        return f"{self.code} {self.enhanced + ' ' if self.enhanced else ''}{self.text}"


def reply(code: int, enhanced: str | None, *lines: str) -> Reply:
    """Return a reply; a shorthand that reads like the wire: `reply(550, "5.1.1", "No such user here")`."""
    return Reply(code, enhanced, lines)
