"""Numbered messages: a number and a seed say every octet, so that a message found anywhere can be told and compared.

Nothing keeps octets: they are made again when they are wanted.
"""

import base64
import random
import re
from dataclasses import dataclass

_ID = re.compile(rb"<torture-(\d+)-(\d+)@clients\.test>")


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that a client sends."""

    number: int
    seed: int
    sender: str
    recipients: tuple[str, ...]
    size: int  # octets of the text, about

    @property
    def octets(self) -> bytes:
        """The whole message. No line begins with a dot: stuffing has its tests elsewhere."""
        text = random.Random(f"{self.seed} {self.number}").randbytes(self.size * 3 // 4)
        lines = [
            b"From: <%s>" % self.sender.encode(),
            b"To: <%s>" % self.recipients[0].encode(),
            b"Subject: torture %d" % self.number,
            b"Date: Wed, 25 Nov 2026 12:00:00 +0000",
            b"Message-ID: <torture-%d-%d@clients.test>" % (self.seed, self.number),
            b"",
            b"number %d" % self.number,
        ]
        return b"\r\n".join([*lines, *base64.encodebytes(text).split()]) + b"\r\n"


def number_of(octets: bytes, seed: int) -> int | None:
    """Return the number of a message by its Message-ID, None when it is none of this run."""
    header = octets.partition(b"\r\n\r\n")[0]
    found = re.search(rb"(?mi)^Message-ID:\s*" + _ID.pattern, header)
    return int(found[2]) if found and int(found[1]) == seed else None


@dataclass(frozen=True, slots=True)
class Returned:
    """What a delivery status notification says: which message, and which recipients it was not delivered to."""

    number: int
    recipients: tuple[str, ...]


def returned_by(octets: bytes, seed: int) -> Returned | None:
    """Read a notification of failure on one of our messages (RFC 3464); None when it is no such thing."""
    header, _, body = octets.partition(b"\r\n\r\n")
    if b"report-type=delivery-status" not in header:
        return None
    about = re.search(rb"(?mi)^In-Reply-To:\s*" + _ID.pattern, header)
    failed = re.findall(rb"(?mi)^Final-Recipient: rfc822; *(\S+)\r\n(?:[^\r\n]+\r\n)*?Action: failed", body)
    if about is None or int(about[1]) != seed or not failed:
        return None
    return Returned(int(about[2]), tuple(address.decode() for address in failed))


def trace_by(header: bytes, hostname: str) -> str | None:
    """Return the trace id that a host wrote into its Received field; None when there is no such field."""
    ours = rb"(?m)^Received: .* by %s \(Waypost\) .* id ([0-9a-z]{13})" % re.escape(hostname.encode())
    found = re.search(ours, header.replace(b"\r\n\t", b" "))
    return found[1].decode() if found else None
