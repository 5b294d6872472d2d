"""What the SMTP and LMTP server engine tells its owner (RFC 5321 section 4.1.1).

The engine parses and keeps order; the owner decides. An event marked *asks* stops the engine until
the owner calls `SmtpServer.answer` (or `challenge`); what the peer pipelined behind it waits meanwhile.
"""

from dataclasses import dataclass

from waypost.message.envelope import Envelope, Recipient


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO, HELO or LHLO arrived. *Asks*: a positive answer makes the engine send its own capability list."""

    name: str
    extended: bool


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS arrived. *Asks*: after a 220 the owner does the handshake and calls `tls_started`."""


@dataclass(frozen=True, slots=True)
class AuthStarted:
    """AUTH arrived with a mechanism that the engine offers. *Asks*: `challenge` or `answer`.

    `initial` is the decoded initial response, b"" for "=", None when there was none.
    """

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The client's decoded answer to a challenge. *Asks*: `challenge` or `answer`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AuthCancelled:
    """The client sent `*` (RFC 4954 section 4). The engine has answered 501 5.7.0 itself."""


@dataclass(frozen=True, slots=True)
class MailOffered:
    """MAIL FROM arrived, well formed and allowed here. *Asks*. `envelope.recipients` is empty."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class RecipientOffered:
    """RCPT TO arrived, well formed. *Asks*. `<postmaster>` without a domain has the empty domain ""."""

    recipient: Recipient


@dataclass(frozen=True, slots=True)
class DataStarted:
    """DATA, or the first BDAT, arrived. *Asks*: 354 lets DATA begin (nothing is sent for BDAT)."""

    chunked: bool


@dataclass(frozen=True, slots=True)
class MessageChunk:
    """The next octets of the content: dots unstuffed, every line end CRLF (but for BINARYMIME)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class MessageEnded:
    """The content is whole. *Asks*: `answer` (SMTP), or `answer_each` with a reply a recipient (LMTP)."""

    size: int


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """The engine refuses this content (size, bare CR or LF, NUL, bad BDAT); it has answered by itself.

    The owner drops what it collected. `reason` is for the log.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class TransactionReset:
    """RSET, a new EHLO or a failed transaction: the owner forgets the envelope. The engine has answered."""


@dataclass(frozen=True, slots=True)
class MuchSaid:
    """Many commands were answered without an event: the owner writes the replies before it asks for the next event."""


@dataclass(frozen=True, slots=True)
class Closed:
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
    | Closed
)
