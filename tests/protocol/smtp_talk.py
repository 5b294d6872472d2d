"""A conversation with the SMTP client engine: the test plays the server, line by line."""

from itertools import pairwise

from waypost.message.address import Address
from waypost.message.envelope import Envelope, Recipient
from waypost.protocol.smtp.client import ClientOptions, SmtpClient
from waypost.protocol.smtp.client_events import ClientEvent, RecipientOutcome, TransactionEnded

NOW = 1_795_500_000_000_000
SECOND = 1_000_000
CONTENT = b"Subject: tea\r\n\r\nAt five.\r\n"


def to(*addresses: str) -> tuple[Recipient, ...]:
    """Return recipients."""
    return tuple(Recipient(Address.parse(address)) for address in addresses)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return the same octets in pieces; the places of the cuts wrap around."""
    edges = [0, *sorted(place % (len(data) + 1) for place in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


ENVELOPE = Envelope(Address.parse("alice@client.test"))
BOB = to("bob@server.test")


class Talk:
    """The server's side of a session, after the greeting and a positive EHLO that offers `offers`."""

    def __init__(self, *offers: str, lmtp: bool = False, chunking: bool = True, welcome: bool = True) -> None:
        self.engine = SmtpClient(ClientOptions("client.test", lmtp=lmtp, chunking=chunking), now=lambda: NOW)
        self.events: list[ClientEvent] = []
        if welcome:
            self.hear("220 server.test ready")
            self.engine.hello()
            self.said()
            self.hear(*(f"250-{line}" for line in ("server.test", *offers)), "250 HELP")

    def hear(self, *lines: str | bytes) -> bytes:
        """Let the server say lines; return what the engine writes then."""
        for line in lines:
            self.engine.receive((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.said()

    def said(self) -> bytes:
        """Return what the engine wrote since the last time."""
        while (event := self.engine.next_event()) is not None:
            self.events.append(event)
        return self.engine.take_output()

    def begin(self, recipients: tuple[Recipient, ...] = BOB, content: bytes = CONTENT) -> bytes:
        """Begin a transaction; return what is written."""
        self.engine.begin(ENVELOPE, recipients, content)
        return self.said()

    @property
    def last(self) -> ClientEvent:
        """The last event."""
        return self.events[-1]

    @property
    def ended(self) -> TransactionEnded:
        """The end of the last transaction."""
        return next(event for event in reversed(self.events) if isinstance(event, TransactionEnded))

    @property
    def outcomes(self) -> tuple[RecipientOutcome, ...]:
        """The outcomes of the last transaction."""
        return self.ended.outcomes

    @property
    def fates(self) -> list[str]:
        """The replies that decided, as text; those of ours in parentheses."""
        return [f"({outcome.reply})" if outcome.local else str(outcome.reply) for outcome in self.outcomes]
