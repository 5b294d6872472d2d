"""The envelope of RFC 5321 section 2.3.1, and what the SMTP extensions add to it.

Values only: the arguments of MAIL and RCPT in typed form. The content is not part of it.
"""

from enum import IntFlag, StrEnum
from typing import Literal

import msgspec
from msgspec.structs import replace

from waypost.message.address import Address
from waypost.message.trace import Micros


class BodyType(StrEnum):
    """BODY= of MAIL (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


class Notify(IntFlag):
    """NOTIFY= of RCPT (RFC 3461 section 4.1). NEVER stands alone."""

    NEVER = 0
    SUCCESS = 1
    FAILURE = 2
    DELAY = 4


class Ret(StrEnum):
    """RET= of MAIL (RFC 3461 section 4.3): what a DSN returns of the message."""

    FULL = "FULL"
    HEADERS = "HDRS"


class OriginalRecipient(msgspec.Struct, frozen=True):
    """ORCPT= of RCPT (RFC 3461 section 4.2), its xtext decoded: `rfc822` and `bob@example.org`."""

    kind: str
    address: str


class DeliverBy(msgspec.Struct, frozen=True):
    """BY= of MAIL (RFC 2852): the deadline, and what to do at it. `trace` asks for a 'relayed' DSN."""

    deadline: Micros
    mode: Literal["R", "N"]
    trace: bool = False


class Recipient(msgspec.Struct, frozen=True):
    """One forward-path with the parameters of its RCPT; `notify` None means that the sender gave no NOTIFY."""

    address: Address
    notify: Notify | None = None
    original: OriginalRecipient | None = None


class Envelope(msgspec.Struct, frozen=True):
    """The sender, the recipients and the requested handling of a message.

    `reverse_path` None is the null reverse-path `<>`. `hold_until` is FUTURERELEASE (RFC 4865);
    `priority` is MT-PRIORITY, -9..9 (RFC 6710); `size` is the declared size in octets (RFC 1870).
    """

    reverse_path: Address | None
    recipients: tuple[Recipient, ...] = ()
    body: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False
    size: int | None = None
    ret: Ret | None = None
    envid: str | None = None
    hold_until: Micros | None = None
    deliver_by: DeliverBy | None = None
    priority: int = 0

    def to(self, recipients: tuple[Recipient, ...]) -> "Envelope":  # hot: bench/accept
        """Return the same envelope for these recipients."""
        return replace(self, recipients=recipients)
