"""What the SMTP and LMTP server engine tells its owner (RFC 5321 section 4.1.1).

The engine parses and checks the order of commands; the owner decides. An event marked *asks* stops the engine until
the owner calls `SmtpServer.answer` (or `challenge`); commands that the peer pipelined after it wait meanwhile.
"""

import msgspec

from waypost.message.envelope import Envelope, Recipient


class Hello(msgspec.Struct, frozen=True):
    """EHLO, HELO or LHLO arrived. *Asks*: a positive answer makes the engine send its own capability list."""

    name: str
    extended: bool


class StartTls(msgspec.Struct, frozen=True):
    """STARTTLS arrived. *Asks*: after a 220 the owner does the handshake and calls `tls_started`."""


class AuthStarted(msgspec.Struct, frozen=True):
    """AUTH arrived with a mechanism that the engine offers. *Asks*: `challenge` or `answer`.

    `initial` is the decoded initial response, b"" for "=", None when there was none.
    """

    mechanism: str
    initial: bytes | None


class AuthResponse(msgspec.Struct, frozen=True):
    """The client's decoded answer to a challenge. *Asks*: `challenge` or `answer`."""

    data: bytes


class AuthCancelled(msgspec.Struct, frozen=True):
    """The client sent `*` (RFC 4954 section 4). The engine has answered 501 5.7.0 itself."""


class MailOffered(msgspec.Struct, frozen=True):
    """MAIL FROM arrived, well formed and allowed here. *Asks*. `envelope.recipients` is empty."""

    envelope: Envelope


class RecipientOffered(msgspec.Struct, frozen=True):
    """RCPT TO arrived, well formed. *Asks*. `<postmaster>` without a domain has the empty domain ""."""

    recipient: Recipient


class DataStarted(msgspec.Struct, frozen=True):
    """DATA, or the first BDAT, arrived. *Asks*: 354 lets DATA begin (nothing is sent for BDAT)."""

    chunked: bool


class MessageChunk(msgspec.Struct, frozen=True):
    """The next octets of the content: dots unstuffed, every line end CRLF (except with BINARYMIME)."""

    data: bytes


class MessageEnded(msgspec.Struct, frozen=True):
    """The content is whole. *Asks*: `answer` (SMTP), or `answer_each` with a reply a recipient (LMTP)."""

    size: int


class MessageRefused(msgspec.Struct, frozen=True):
    """The engine refuses this content (size, bare CR or LF, NUL, bad BDAT); it has answered by itself.

    The owner drops what it collected. `reason` is for the log.
    """

    reason: str


class TransactionReset(msgspec.Struct, frozen=True):
    """RSET, a new EHLO or a failed transaction: the owner forgets the envelope. The engine has answered."""


class MuchSaid(msgspec.Struct, frozen=True):
    """Many commands were answered without an event: the owner writes the replies before it asks for the next event."""


class JunkSaid(msgspec.Struct, frozen=True):
    """One more useless command, past the limit: the owner delays the reply."""


class Closed(msgspec.Struct, frozen=True):
    """The session is over: write what `take_output` holds, then close. `reason` is for the log."""

    reason: str


ServerEvent = (
    Hello
    | StartTls
    | AuthStarted
    | AuthResponse
    | AuthCancelled
    | MailOffered
    | RecipientOffered
    | DataStarted
    | MessageChunk
    | MessageEnded
    | MessageRefused
    | TransactionReset
    | MuchSaid
    | JunkSaid
    | Closed
)
