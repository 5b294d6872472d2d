"""Trace fields: the Received field that each hop puts first (RFC 5321 4.4), and how they reveal loops."""

import re
import time
from functools import lru_cache

import msgspec

from waypost.message.address import Address
from waypost.message.headers import HeaderBlock
from waypost.message.trace import Micros, TraceId, format_trace_id

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SAFE = re.compile(r"[^A-Za-z0-9.:_\[\]\-]")


class Hop(msgspec.Struct, frozen=True):
    """What a Received field says of one hop: the client, how the message came, and our own name."""

    helo: str
    peer: str  # IP address
    hostname: str
    protocol: str  # "with" value
    tls: str | None = None  # "TLSv1.3 cipher"
    hide_peer: bool = False  # the address of a submitter is not shown to others
    name: str | None = None  # of the peer's address, confirmed (RFC 8601 section 3)


def with_protocol(*, extended: bool, tls: bool, authenticated: bool, lmtp: bool = False, utf8: bool = False) -> str:
    """Return the `with` keyword of RFC 3848, or of RFC 6531 section 4.3 for an internationalised message."""
    if lmtp:
        base = "UTF8LMTP" if utf8 else "LMTP"
    elif utf8:
        base = "UTF8SMTP"
    elif not extended:
        return "SMTP"
    else:
        base = "ESMTP"
    return base + ("S" if tls else "") + ("A" if authenticated else "")


def date_text(now: Micros) -> str:
    """Return a date-time of RFC 5322 3.3 in UTC: `Tue, 24 Nov 2026 16:57:26 +0000`."""
    return _date_text(now // 1_000_000)


@lru_cache(maxsize=4)
def _date_text(seconds: int) -> str:
    moment = time.gmtime(seconds)
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday} {_MONTHS[moment.tm_mon - 1]} {moment.tm_year} "
        f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} +0000"
    )


def received_field(hop: Hop, trace: TraceId, now: Micros, recipient: Address | None = None) -> bytes:
    """Return the field with its line end, in ASCII. Give `recipient` only where the message has a single one.

    The clause `for` is optional (RFC 5321 4.4). It is left out for a local part outside ASCII: such an address may be
    our alias of an ASCII address, and a header that is not ASCII could not go to a server without SMTPUTF8.
    """
    helo = _SAFE.sub("?", hop.helo)[:255] or "unknown"
    literal = f"[IPv6:{hop.peer}]" if ":" in hop.peer else f"[{hop.peer}]"
    if hop.name is not None:
        literal = f"{_SAFE.sub('?', hop.name)} {literal}"
    lines = [f"Received: from {helo}" + ("" if hop.hide_peer else f" ({literal})")]
    tls = f" ({_SAFE.sub(' ', hop.tls)})" if hop.tls else ""
    lines.append(f"\tby {hop.hostname} (Waypost) with {hop.protocol}{tls}")
    last = f"\tid {format_trace_id(trace)}"
    if recipient is not None and recipient.local.isascii():
        lines.append(last)
        last = f"\tfor <{_in_ascii(recipient)}>"
    lines.append(f"{last}; {date_text(now)}")
    return ("\r\n".join(lines) + "\r\n").encode()


def _in_ascii(address: Address) -> Address:
    """Return an address with its domain in A-labels."""
    return address if address.domain.isascii() else address.at(address.domain_key)


def count_received(headers: HeaderBlock) -> int:
    """Return the number of Received fields: a message with too many is in a loop (RFC 5321 6.3)."""
    return headers.count(b"received")


def passed_here(headers: HeaderBlock, hostname: str) -> int:
    """Return how many Received fields were written by this host."""
    ours = f"by {hostname} (waypost)".encode().lower()
    return sum(ours in value.lower() for value in headers.get_all(b"received"))
