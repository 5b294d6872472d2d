"""What the SMTP and LMTP client engine tells its owner (RFC 5321 section 4.1.1, RFC 2033).

Every command that the owner gives ends with exactly one of these, `Disconnected` at the latest.
"""

import msgspec

from waypost.message.envelope import Recipient
from waypost.protocol.reply import Reply
from waypost.protocol.smtp.capabilities import Capabilities


class Greeted(msgspec.Struct, frozen=True):
    """The server's greeting: positive, or a refusal (RFC 7504) after which only QUIT makes sense."""

    reply: Reply


class Welcomed(msgspec.Struct, frozen=True):
    """EHLO (or HELO, or LHLO) was answered with yes; `capabilities` are empty after HELO."""

    capabilities: Capabilities
    extended: bool


class HelloRefused(msgspec.Struct, frozen=True):
    """The server refuses EHLO and HELO."""

    reply: Reply


class TlsProceeds(msgspec.Struct, frozen=True):
    """STARTTLS was answered with 220: do the handshake, then call `tls_started`."""


class TlsRefused(msgspec.Struct, frozen=True):
    """STARTTLS was refused; the session goes on in plain text if the owner wants that."""

    reply: Reply


class Authenticated(msgspec.Struct, frozen=True):
    """AUTH succeeded, and the server proved itself where the mechanism asks for that."""

    reply: Reply


class AuthenticationFailed(msgspec.Struct, frozen=True):
    """AUTH failed. `local` means that we cancelled it: `reply` is then our own."""

    reply: Reply
    local: bool


class ContentWanted(msgspec.Struct, frozen=True):
    """The server wants the content of a transaction that was begun with facts only: call `send_content`
    while `wants_content`, then `end_content`."""


class RecipientOutcome(msgspec.Struct, frozen=True):
    """The outcome of one recipient. `local`: the reply is ours, because the server was not asked."""

    recipient: Recipient
    reply: Reply
    local: bool = False


class TransactionEnded(msgspec.Struct, frozen=True):
    """A transaction is over; every recipient has an outcome, in the order of `begin`.

    `dsn`: the server offers DSN and got the parameters, so the server reports success. `untried`: the
    session ended before the server answered MAIL, so the message can go over another connection at once.
    """

    outcomes: tuple[RecipientOutcome, ...]
    dsn: bool
    untried: bool = False


class Disconnected(msgspec.Struct, frozen=True):
    """The session is over: close the connection. `reply` is the server's farewell where there was one;
    `status` is the RFC 3463 code for the work that was left undone."""

    reason: str
    status: str
    reply: Reply | None = None


ClientEvent = (
    Greeted
    | Welcomed
    | HelloRefused
    | TlsProceeds
    | TlsRefused
    | Authenticated
    | AuthenticationFailed
    | ContentWanted
    | TransactionEnded
    | Disconnected
)
