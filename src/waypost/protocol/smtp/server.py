"""Contract of the SMTP server engine; the implementation follows."""

from dataclasses import dataclass

from waypost.message.envelope import Envelope
from waypost.protocol.reply import Reply
from waypost.protocol.smtp.events import ServerEvent


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a server session offers and how much it bears. Times are seconds, sizes octets."""

    hostname: str
    lmtp: bool = False
    submission: bool = False  # FUTURERELEASE, DELIVERBY, MT-PRIORITY and AUTH are offered
    starttls: bool = False  # offered until TLS is on
    mechanisms: tuple[str, ...] = ()  # AUTH mechanisms, offered over TLS only
    auth_required: bool = False  # MAIL before AUTH is answered 530 5.7.0
    max_message_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    max_command_line: int = 4096
    max_transactions: int = 1000
    max_errors: int = 20
    max_hold: int = 30 * 86400  # FUTURERELEASE: seconds into the future
    greeting: str = "ESMTP"


class SmtpServer:
    """Sans-IO SMTP/LMTP server session (RFC 5321 section 4.1).

    The owner: `receive` bytes, loop `next_event`, answer the events that ask, write `take_output()`.
    """

    def __init__(self, options: ServerOptions, *, tls: bool = False) -> None:
        raise NotImplementedError

    def greet(self, reply: Reply | None = None) -> None:
        """Queue the 220 greeting, or the refusal `reply` (421/521/554), after which the session is over."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. Input is bounded: see `wants_input`."""

    def receive_eof(self) -> None:
        """The peer closed its side."""

    @property
    def wants_input(self) -> bool:
        """False while an event waits for its answer or the buffer is full: the owner stops reading."""
        raise NotImplementedError

    def next_event(self) -> ServerEvent | None:
        """Return the next event; None while an answer or more input is needed."""
        raise NotImplementedError

    def answer(self, reply: Reply) -> None:
        """Answer the event that asks; a positive reply lets the engine go on, a negative one refuses."""

    def answer_each(self, replies: list[Reply]) -> None:
        """LMTP: answer `MessageEnded` with one reply for each accepted recipient, in order."""

    def challenge(self, data: bytes) -> None:
        """Send a SASL challenge (334)."""

    def tls_started(self) -> None:
        """The handshake is done: state is reset (RFC 3207 4.2); what came in before it is gone."""

    def shut_down(self, reply: Reply) -> None:
        """End the session from our side at once (421 at stop or time-out)."""

    def take_output(self) -> bytes:
        """Return and forget the bytes to write."""
        raise NotImplementedError

    @property
    def envelope(self) -> Envelope | None:
        """The envelope so far, with the accepted recipients only; None outside a transaction."""
        raise NotImplementedError
