"""What a server said in its EHLO or LHLO reply (RFC 5321 4.1.1.1), in typed form, for the client engine."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MECHANISM = re.compile(r"[A-Z0-9_-]+")  # RFC 4422 section 3.1


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The extensions of one server in one state of a session (they change with TLS and with AUTH).

    `size` is the largest message in octets, 0 when the server states none (RFC 1870). `rcpt_max` and
    `mail_max` are LIMITS of RFC 9422; `deliver_by` is the least by-time in seconds (RFC 2852 section 3),
    `max_hold` the longest hold in seconds (RFC 4865 section 4).
    """

    keywords: frozenset[str] = frozenset()
    size: int = 0
    mechanisms: frozenset[str] = frozenset()
    rcpt_max: int | None = None
    mail_max: int | None = None
    deliver_by: int = 0
    max_hold: int = 0

    # RFC 2920, 6152, 3030, 6531, 3207, 3461: read for each message, so they are plain attributes.
    pipelining: bool = False
    eight_bit: bool = False
    chunking: bool = False
    binary: bool = False
    smtputf8: bool = False
    starttls: bool = False
    dsn: bool = False

    def offers(self, keyword: str) -> bool:
        """True when the server listed the keyword (upper case)."""
        return keyword in self.keywords


def parse_capabilities(lines: Sequence[str]) -> Capabilities:
    """Read the lines of a positive EHLO reply; the first is the server's name. Never fails: a line that is not
    understood offers nothing."""
    offered: dict[str, list[str]] = {}
    for line in lines[1:]:
        words = line.split()
        if words and words[0].upper().partition("=")[0] == "AUTH":
            # Some servers say only `AUTH=`, the form before RFC 2554; some write commas.
            words = ["AUTH", *_MECHANISM.findall(line.upper().partition("AUTH")[2])]
        if words:
            offered.setdefault(words[0].upper(), []).extend(word.upper() for word in words[1:])
    # RFC 9422 section 4: a limit that is zero or not a number does not count.
    limits = dict(word.partition("=")[::2] for word in offered.get("LIMITS", ()))
    return Capabilities(
        keywords=frozenset(offered),
        size=_number(offered.get("SIZE")) or 0,
        mechanisms=frozenset(offered.get("AUTH", ())),
        rcpt_max=_number([limits.get("RCPTMAX", "")]) or None,
        mail_max=_number([limits.get("MAILMAX", "")]) or None,
        deliver_by=_number(offered.get("DELIVERBY")) or 0,
        max_hold=_number(offered.get("FUTURERELEASE")) or 0,
        pipelining="PIPELINING" in offered,
        eight_bit="8BITMIME" in offered,
        chunking="CHUNKING" in offered,
        binary="BINARYMIME" in offered and "CHUNKING" in offered,  # RFC 3030 section 3
        smtputf8="SMTPUTF8" in offered,
        starttls="STARTTLS" in offered,
        dsn="DSN" in offered,
    )


def _number(words: list[str] | None) -> int | None:
    if not words or not words[0].isascii() or not words[0].isdigit() or len(words[0]) > 18:
        return None
    return int(words[0])
