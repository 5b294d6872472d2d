"""The SMTP and LMTP client engine (RFC 5321, RFC 2033): replies in, commands and content out, no socket.

The owner connects, feeds `receive`, handles `next_event` and writes `take_output()`; it gives one command at
a time and waits for its event. Commands are pipelined where the server allows it (RFC 2920). What a server
says is never trusted: replies are bounded, a reply that nothing asked for ends the session, and so does anything
that arrives between STARTTLS and the handshake (RFC 3207 section 5). No command can hold a CR, LF or NUL inside
its line, and no content after DATA can hold a bare CR, a bare LF or a NUL.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from waypost.message.envelope import Envelope, Recipient
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply, reply
from waypost.protocol.smtp.capabilities import Capabilities, parse_capabilities
from waypost.protocol.smtp.client_events import (
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
from waypost.protocol.smtp.client_login import ClientLogin, ClientMechanism, LoginStep
from waypost.protocol.smtp.client_transaction import MailTransaction, ignored
from waypost.protocol.smtp.outgoing import ContentFacts, scan
from waypost.protocol.smtp.pipeline import Handler, Pipeline
from waypost.protocol.smtp.reply_reader import ReplyError, ReplyReader
from waypost.protocol.smtp.transaction import Refusal, plan_transaction

__all__ = ["ClientMechanism", "ClientOptions", "SmtpClient"]

_NO_MAIL_HERE = frozenset({521, 554, 556})  # RFC 5321 3.1, RFC 7504
_OVER = reply(451, "4.4.2", "the connection was lost")


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a client presents itself. `hostname` is the name in EHLO: a domain name or an address literal.

    With `chunking` off, BDAT is used only for BINARYMIME.
    """

    hostname: str
    lmtp: bool = False
    chunking: bool = True


class SmtpClient:
    """Sans-IO SMTP/LMTP client session.

    The owner: `receive` bytes, take `next_event` until None, write `take_output()`; the first event is
    `Greeted`. `now` gives microseconds since 1970, for DELIVERBY and FUTURERELEASE.
    """

    __slots__ = (
        "_awaits_handshake",
        "_events",
        "_login",
        "_name",
        "_now",
        "_options",
        "_over",
        "_pipeline",
        "_reader",
        "_transaction",
        "capabilities",
        "replies",
    )

    def __init__(self, options: ClientOptions, *, now: Callable[[], Micros]) -> None:
        self._options = options
        self._name = options.hostname.encode("ascii")
        self._now = now
        self._reader = ReplyReader()
        self._events: deque[ClientEvent] = deque()
        self._pipeline = Pipeline()
        self._pipeline.expect(self._on_greeting)
        self._transaction: MailTransaction | None = None
        self._login: ClientLogin | None = None
        self._awaits_handshake = False
        self._over = False
        self.capabilities = Capabilities()
        """What the server offers now; empty before `Welcomed` and after `tls_started`."""
        self.replies = 0
        """How many replies have come: a time-out runs from one whole reply to the next."""

    # -- input and output ---------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:  # hot: bench/relay
        """Take bytes from the server and work through the replies in them."""
        if self._over:
            return
        if self._awaits_handshake:
            if self._events and isinstance(self._events[-1], TlsProceeds):
                self._events.pop()  # the owner has not taken it, and must not do the handshake
            self.fail("the server sent text between STARTTLS and the handshake", "4.7.0")
            return
        self._reader.receive(data)
        try:
            while not self._over and (answer := self._reader.next()) is not None:
                self.replies += 1
                self._take_reply(answer)
        except ReplyError as error:
            self.fail(str(error), "4.5.0")

    def receive_eof(self) -> None:
        """The server closed the connection, or it is lost."""
        self.fail("the connection was lost", "4.4.2")

    def next_event(self) -> ClientEvent | None:
        """Return the next event; None while more input or a command is needed."""
        return self._events.popleft() if self._events else None

    def take_output(self) -> bytes:
        """Return and forget the bytes to write."""
        return self._pipeline.take_output()

    @property
    def over(self) -> bool:
        """True once `Disconnected` was said: nothing more will be read or written."""
        return self._over

    @property
    def awaits_final(self) -> bool:
        """True while the server owes the answer to a whole content (10 minutes, RFC 5321 4.5.3.2.6)."""
        return self._transaction is not None and self._transaction.awaits_final

    @property
    def wants_content(self) -> bool:
        """True while `send_content` may be called: after `ContentWanted`, unless the server refused already,
        and not while a chunk waits for its turn (BDAT without PIPELINING)."""
        return self._transaction is not None and self._transaction.streaming and not self._pipeline.waiting

    @property
    def streaming(self) -> bool:
        """True from `ContentWanted` until `end_content` or the end of the transaction."""
        return self._transaction is not None and self._transaction.streaming

    def fail(self, reason: str, status: str, farewell: Reply | None = None) -> None:
        """End the session at once: a time-out, a lost connection, a server that breaks the protocol.

        Recipients without an outcome get `farewell` (the server's 421), or a temporary failure with `status`.
        """
        if self._over:
            return
        self._over = True
        self._pipeline.clear()
        if self._transaction is not None and not self._transaction.over:
            self._transaction.abandon(farewell or reply(451, status, reason), local=farewell is None)
        self._events.append(Disconnected(reason, status, farewell))

    # -- commands -----------------------------------------------------------------------------------------

    def hello(self) -> None:
        """Say EHLO, and HELO to a server that does not know it (RFC 5321 3.2); LHLO in LMTP."""
        verb = b"LHLO " if self._options.lmtp else b"EHLO "
        self._command(verb + self._name, self._on_hello)

    def start_tls(self) -> None:
        """Say STARTTLS (RFC 3207); ends with `TlsProceeds` or `TlsRefused`."""
        self._command(b"STARTTLS", self._on_start_tls)

    def tls_started(self) -> None:
        """The handshake is done: forget what the server offered before; the owner calls `hello` again."""
        self._awaits_handshake = False
        self.capabilities = Capabilities()
        self._pipeline.pipelining = False
        self._transaction = None

    def authenticate(self, mechanism: ClientMechanism) -> None:
        """Log in (RFC 4954); ends with `Authenticated` or `AuthenticationFailed`."""
        self._login = ClientLogin(mechanism)
        self._follow(self._login.begin())

    def begin(
        self, envelope: Envelope, recipients: tuple[Recipient, ...], content: bytes | ContentFacts
    ) -> None:  # hot: bench/relay
        """Begin a transaction; ends with `TransactionEnded`.

        Given the whole content, the engine sends it by itself. Given only the facts of a content that is too large
        to hold, it asks for the content by `ContentWanted`.
        """
        if self._over:
            self._nothing_sent(recipients, [_OVER] * len(recipients), untried=True)
            return
        whole = content if isinstance(content, bytes) else None
        facts = scan(content) if isinstance(content, bytes) else content
        server = self.capabilities
        plan = plan_transaction(envelope, recipients, facts, server, self._now())
        if isinstance(plan, Refusal):
            self._nothing_sent(recipients, [plan.reply] * len(recipients))
            return
        if None not in plan.refused:
            self._nothing_sent(recipients, plan.refused)
            return
        reset = self._transaction is not None and self._transaction.needs_reset
        self._transaction = MailTransaction(
            self._pipeline,
            recipients,
            plan,
            whole,
            # Without PIPELINING, BDAT would cost a round trip for each chunk: DATA is better then.
            chunked=plan.binary or (self._options.chunking and server.chunking and server.pipelining),
            lmtp=self._options.lmtp,
            dsn=server.dsn,
            emit=self._events.append,
            fail=self.fail,
        )
        self._transaction.start(reset=reset)

    def _nothing_sent(
        self, recipients: tuple[Recipient, ...], fates: Sequence[Reply | None], *, untried: bool = False
    ) -> None:
        outcomes = tuple(
            RecipientOutcome(recipient, fate, True)
            for recipient, fate in zip(recipients, fates, strict=True)
            if fate is not None
        )
        self._events.append(TransactionEnded(outcomes, False, untried))

    def send_content(self, data: bytes) -> None:
        """Send the next octets of the content. Octets that its facts excluded end the session: the content can't
        be sent, and SMTP has no way to break it off."""
        if self._transaction is not None and self._transaction.streaming:
            self._transaction.send(data)

    def end_content(self) -> None:
        """The content is whole."""
        if self._transaction is not None and self._transaction.streaming:
            self._transaction.finish()

    def quit(self) -> None:
        """Say QUIT; ends with `Disconnected`."""
        self._command(b"QUIT", self._on_quit)

    # -- replies ------------------------------------------------------------------------------------------

    def _take_reply(self, answer: Reply) -> None:
        expected = self._pipeline.next_handler()
        if expected is None:
            self._take_unasked(answer)
            return
        handler, argument = expected
        if answer.code == 421 and handler not in (self._on_greeting, self._on_quit):
            self.fail("the server closes the connection", answer.enhanced or "4.4.2", answer)
            return
        handler(answer, argument)
        if self._pipeline.waiting:
            self._pipeline.pump()

    def _take_unasked(self, answer: Reply) -> None:
        if self._transaction is not None and self._transaction.streaming and not answer.positive:
            self._transaction.interrupted(answer)
        elif answer.code == 421:  # RFC 5321 3.8: at any time
            self.fail("the server closes the connection", answer.enhanced or "4.4.2", answer)
        else:
            self.fail("the server sent a reply that nothing asked for", "4.5.0")

    def _on_greeting(self, answer: Reply, _: int) -> None:
        self._events.append(Greeted(answer))

    def _on_hello(self, answer: Reply, _: int) -> None:
        if answer.code == 250:
            self._welcomed(parse_capabilities(answer.lines), extended=True)
        elif answer.permanent and answer.code not in _NO_MAIL_HERE and not self._options.lmtp:
            self._command(b"HELO " + self._name, self._on_helo)  # RFC 5321 3.2
        else:
            self._events.append(HelloRefused(answer))

    def _on_helo(self, answer: Reply, _: int) -> None:
        if answer.code == 250:
            self._welcomed(Capabilities(), extended=False)
        else:
            self._events.append(HelloRefused(answer))

    def _welcomed(self, capabilities: Capabilities, *, extended: bool) -> None:
        self.capabilities = capabilities
        self._pipeline.pipelining = capabilities.pipelining
        self._events.append(Welcomed(capabilities, extended))

    def _on_start_tls(self, answer: Reply, _: int) -> None:
        if answer.code != 220:
            self._events.append(TlsRefused(answer))
        elif self._reader.buffered:  # injected before the handshake
            self.fail("the server sent text between STARTTLS and the handshake", "4.7.0")
        else:
            self._awaits_handshake = True
            self._events.append(TlsProceeds())

    def _on_auth(self, answer: Reply, _: int) -> None:
        if self._login is not None:
            self._follow(self._login.answer(answer))

    def _follow(self, step: LoginStep) -> None:
        if step.lied:
            self.fail("the server accepted the login without the proof that it knows the password", "4.7.8")
            return
        if step.event is not None:
            self._login = None
            self._events.append(step.event)
        if step.line is not None:
            self._command(step.line, self._on_auth if step.event is None else ignored)

    def _on_quit(self, answer: Reply, _: int) -> None:
        self._over = True
        self._events.append(Disconnected("the session is over", "2.0.0", answer))

    def _command(self, line: bytes, handler: Handler) -> None:
        if not self._over:
            self._pipeline.say(line + b"\r\n", handler)
