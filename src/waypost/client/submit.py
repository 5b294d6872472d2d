"""Submits a message: drives the SMTP client engine over one connection (RFC 6409, RFC 8314).

If the place asks for TLS, no mail is sent without it, and no password before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from waypost.client.compose import Composed
from waypost.client.connection import COMMAND_TIMEOUT, CONTENT_TIMEOUT, ClientConnection
from waypost.client.errors import ClientError
from waypost.client.places import Security, ServerPlace, other_scheme
from waypost.client.trust import Trust
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.sasl import choose
from waypost.protocol.smtp.client import ClientOptions, SmtpClient
from waypost.protocol.smtp.client_events import (
    Authenticated,
    AuthenticationFailed,
    ClientEvent,
    Disconnected,
    Greeted,
    HelloRefused,
    RecipientOutcome,
    TlsProceeds,
    TlsRefused,
    TransactionEnded,
    Welcomed,
)

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Submitted:
    """The server's replies: `reply` is the one to the whole message, None when it refused every recipient."""

    reply: Reply | None
    refused: tuple[RecipientOutcome, ...]


def submit(
    place: ServerPlace, trust: Trust, composed: Composed, *, password: Callable[[], str], now: Callable[[], Micros]
) -> Submitted:
    """Send a message. `password` is called when one is needed. Raises `ClientError` with the server's words."""
    with ClientConnection(place, trust) as connection:
        session = _Session(place, connection, now)
        session.open()
        if place.user is not None:
            session.log_in(place.user, password())
        return session.send(composed)


class _Session:
    """One SMTP session of a mail program."""

    def __init__(self, place: ServerPlace, connection: ClientConnection, now: Callable[[], Micros]) -> None:
        self._place = place
        self._connection = connection
        address = connection.local_address
        literal = f"[IPv6:{address.partition('%')[0]}]" if ":" in address else f"[{address}]"  # RFC 5321 4.1.3
        self._engine = SmtpClient(ClientOptions(literal), now=now)

    def open(self) -> None:
        """Read the greeting, say EHLO, and start TLS if the place asks for STARTTLS."""
        greeting = self._expect(Greeted).reply
        if greeting.code != 220:
            raise self._refused("", greeting)
        self._hello()
        if self._place.security is not Security.STARTTLS:
            return
        if not self._engine.capabilities.starttls:
            raise ClientError(f"{self._place}: the server offers no TLS; nothing was sent")
        self._engine.start_tls()
        event = self._expect(TlsProceeds, TlsRefused)
        if isinstance(event, TlsRefused):
            raise self._refused("STARTTLS: ", event.reply)
        self._connection.start_tls()
        self._engine.tls_started()
        self._hello()

    def log_in(self, user: str, password: str) -> None:
        """Log in by the best mechanism that both sides know."""
        offered = sorted(self._engine.capabilities.mechanisms)
        try:
            mechanism = choose(offered, user, password, self._connection.tls)
        except ValueError as error:
            raise ClientError(f"login as {user}: {error}") from None
        if mechanism is None:
            raise ClientError(f"{self._place}: the server offers no login mechanism known here: {', '.join(offered)}")
        self._engine.authenticate(mechanism)
        event = self._expect(Authenticated, AuthenticationFailed)
        if isinstance(event, AuthenticationFailed):
            raise self._refused(f"login as {user}: ", event.reply)

    def send(self, composed: Composed) -> Submitted:
        """Send the message and say goodbye."""
        self._engine.begin(composed.envelope, composed.envelope.recipients, composed.content)
        outcomes = self._expect(TransactionEnded).outcomes
        if not self._engine.over:
            self._engine.quit()
            self._next()  # the answer changes nothing
        taken = [outcome.reply for outcome in outcomes if outcome.reply.positive]
        refused = tuple(outcome for outcome in outcomes if not outcome.reply.positive)
        return Submitted(taken[0] if taken else None, refused)

    def _hello(self) -> None:
        self._engine.hello()
        event = self._expect(Welcomed, HelloRefused)
        if isinstance(event, HelloRefused):
            raise self._refused("", event.reply)

    def _refused(self, about: str, reply: Reply) -> ClientError:
        return ClientError(f"{self._place}: {about}{reply}")

    def _expect(self, *kinds: type[E]) -> E:
        event = self._next()
        if isinstance(event, kinds):
            return event
        if isinstance(event, Disconnected):
            hint = f"; {other_scheme(self._place)}" if Greeted in kinds and event.reply is None else ""
            raise ClientError(f"{self._place}: {event.reply or event.reason}{hint}")
        raise AssertionError(f"{event} instead of one of {kinds}")

    def _next(self) -> ClientEvent:
        while (event := self._engine.next_event()) is None:
            output = self._engine.take_output()
            if output:
                self._connection.write(output)
            data = self._connection.read(CONTENT_TIMEOUT if self._engine.awaits_final else COMMAND_TIMEOUT)
            if data:
                self._engine.receive(data)
            else:
                self._engine.receive_eof()
        return event
