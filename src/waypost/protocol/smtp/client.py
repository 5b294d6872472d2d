"""The SMTP and LMTP client engine (RFC 5321, RFC 2033): replies in, commands and content out, no socket.

The owner connects, feeds `receive`, handles `next_event` and writes `take_output()`; it gives one command at
a time and waits for its event. Commands are pipelined where the server allows it (RFC 2920). What a server
says is never trusted: replies are bounded, unasked ones end the session, and nothing that arrives between
STARTTLS and the handshake survives (RFC 3207 section 5). No command can hold a CR, LF or NUL of ours, and
no content behind DATA a bare one.
"""

import base64
import binascii
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from waypost.message.envelope import Envelope, Recipient
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply, reply
from waypost.protocol.smtp.capabilities import Capabilities, parse_capabilities
from waypost.protocol.smtp.client_events import (
    Authenticated,
    AuthenticationFailed,
    ClientEvent,
    ContentWanted,
    Disconnected,
    Greeted,
    HelloRefused,
    RecipientOutcome,
    TlsProceeds,
    TlsRefused,
    TransactionEnded,
    Welcomed,
)
from waypost.protocol.smtp.outgoing import ContentError, ContentFacts, DotStuffer, LineGuard, scan
from waypost.protocol.smtp.reply_reader import ReplyError, ReplyReader
from waypost.protocol.smtp.transaction import UNCLEAN_CONTENT, Plan, plan_transaction

MAX_AUTH_LINE = 12288  # octets, RFC 4954 section 4
PIPELINED_BDAT = 65536  # octets; a larger content waits until a recipient was accepted

_Handler = Callable[[Reply, int], None]


class ClientMechanism(Protocol):
    """The client side of a SASL mechanism (RFC 4422): `protocol/sasl.py` has them."""

    @property
    def name(self) -> str:
        """The name that follows AUTH: `SCRAM-SHA-256`."""
        ...

    @property
    def done(self) -> bool:
        """True once the server has proved what the mechanism asks of it; success before that is a lie."""
        ...

    def start(self) -> bytes:
        """Return the initial response."""
        ...

    def step(self, challenge: bytes) -> bytes:
        """Answer a challenge. Raises `ValueError` when the server must not be trusted."""
        ...


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a client presents itself. `hostname` is the name in EHLO: a domain name or an address literal.

    `chunking` off: BDAT is used only for BINARYMIME.
    """

    hostname: str
    lmtp: bool = False
    chunking: bool = True


@dataclass(slots=True)
class _Transaction:
    """The transaction under way. `fates[i]` is the reply that decided recipient i, None while undecided."""

    recipients: tuple[Recipient, ...]
    fates: list[Reply | None]
    ours: list[bool]
    content: bytes | None
    chunked: bool
    binary: bool
    unanswered: int  # RCPTs without a reply
    mail_refused: Reply | None = None
    accepted: int = 0
    streaming: bool = False  # the owner is sending the content
    ended: bool = False  # the whole content is written
    stuffer: DotStuffer | None = None
    guard: LineGuard | None = None


class SmtpClient:
    """Sans-IO SMTP/LMTP client session.

    The owner: `receive` bytes, take `next_event` until None, write `take_output()`; the first event is
    `Greeted`. `now` gives microseconds since 1970, for DELIVERBY and FUTURERELEASE.
    """

    def __init__(self, options: ClientOptions, *, now: Callable[[], Micros]) -> None:
        self._options = options
        self._now = now
        self._reader = ReplyReader()
        self._events: deque[ClientEvent] = deque()
        self._output: list[bytes] = []
        self._queue: deque[tuple[bytes, _Handler, int]] = deque()
        self._pending: deque[tuple[_Handler, int]] = deque([(self._on_greeting, 0)])
        self._transaction: _Transaction | None = None
        self._mechanism: ClientMechanism | None = None
        self._awaits_handshake = False
        self._needs_reset = False
        self._quitting = False
        self._over = False
        self.capabilities = Capabilities()
        """What the server offers now; empty before `Welcomed` and after `tls_started`."""

    # -- input and output ---------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the server and work through the replies in them."""
        if self._over:
            return
        if self._awaits_handshake:
            self.fail("the server sent text between STARTTLS and the handshake", "4.7.0")
            return
        self._reader.receive(data)
        try:
            while not self._over and (answer := self._reader.next()) is not None:
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
        if not self._output:
            return b""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output = []
        return output

    @property
    def over(self) -> bool:
        """True once `Disconnected` was said: nothing more will be read or written."""
        return self._over

    @property
    def awaits_final(self) -> bool:
        """True while the server owes the answer to a whole content (10 minutes, RFC 5321 4.5.3.2.6)."""
        return self._transaction is not None and self._transaction.ended

    @property
    def wants_content(self) -> bool:
        """True while `send_content` has a use: after `ContentWanted`, unless the server refused already."""
        transaction = self._transaction
        return transaction is not None and transaction.streaming

    def fail(self, reason: str, status: str, farewell: Reply | None = None) -> None:
        """End the session at once: a time-out, a lost connection, a server that breaks the protocol.

        Recipients without an outcome get `farewell` (the server's 421), or a temporary one with `status`.
        """
        if self._over:
            return
        self._over = True
        self._queue.clear()
        self._pending.clear()
        if self._transaction is not None:
            # RFC 5321 4.2.1 (4yz): nothing is known of them, so all may be tried again.
            words = farewell or reply(451, status, reason)
            self._decide_rest(self._transaction, words, local=farewell is None)
            self._end_transaction()
        self._events.append(Disconnected(reason, status, farewell))

    # -- commands -----------------------------------------------------------------------------------------

    def hello(self) -> None:
        """Say EHLO, and HELO to a server that does not know it (RFC 5321 3.2); LHLO in LMTP."""
        verb = b"LHLO " if self._options.lmtp else b"EHLO "
        self._command(verb + self._name(), self._on_hello)

    def start_tls(self) -> None:
        """Say STARTTLS (RFC 3207); ends with `TlsProceeds` or `TlsRefused`."""
        self._command(b"STARTTLS", self._on_start_tls)

    def tls_started(self) -> None:
        """The handshake is done: what the server said before is forgotten; say `hello` again."""
        self._awaits_handshake = False
        self.capabilities = Capabilities()
        self._needs_reset = False

    def authenticate(self, mechanism: ClientMechanism) -> None:
        """Log in (RFC 4954); ends with `Authenticated` or `AuthenticationFailed`."""
        self._mechanism = mechanism
        initial = base64.b64encode(mechanism.start()) or b"="
        line = b"AUTH " + mechanism.name.encode("ascii") + b" " + initial
        if len(line) + 2 > MAX_AUTH_LINE:
            self._events.append(AuthenticationFailed(reply(501, "5.5.6", "The first response is too long"), True))
            return
        self._command(line, self._on_auth)

    def begin(
        self, envelope: Envelope, recipients: tuple[Recipient, ...], content: bytes | ContentFacts
    ) -> None:  # hot: bench/relay
        """Begin a transaction; ends with `TransactionEnded`.

        With the whole content, the engine sends it by itself; with facts only (of a content that is too large
        to hold), `ContentWanted` asks for it.
        """
        facts = scan(content) if isinstance(content, bytes) else content
        server = self.capabilities
        plan = plan_transaction(envelope, recipients, facts, server, self._now())
        fates: list[Reply | None] = list(plan.refused) if isinstance(plan, Plan) else [plan.reply] * len(recipients)
        if not isinstance(plan, Plan) or None not in fates:
            outcomes = tuple(
                RecipientOutcome(recipient, fate, True)
                for recipient, fate in zip(recipients, fates, strict=True)
                if fate is not None
            )
            self._events.append(TransactionEnded(outcomes, False))
            return
        # BDAT without PIPELINING would pay a round trip a chunk: DATA is better then.
        chunked = plan.binary or (self._options.chunking and server.chunking and server.pipelining)
        lines = [line for line in plan.rcpt if line is not None]
        transaction = _Transaction(
            recipients=recipients,
            fates=fates,
            ours=[fate is not None for fate in fates],
            content=content if isinstance(content, bytes) else None,
            chunked=chunked,
            binary=plan.binary,
            unanswered=len(lines),
        )
        self._transaction = transaction
        if self._needs_reset:
            self._needs_reset = False
            self._queue.append((b"RSET\r\n", self._on_ignored, 0))
        self._queue.append((plan.mail, self._on_mail, 0))
        for index, line in enumerate(plan.rcpt):
            if line is not None:
                self._queue.append((line, self._on_rcpt, index))
        if server.pipelining:
            if not chunked:
                self._queue.append((b"DATA\r\n", self._on_data, 0))
            elif transaction.content is not None and len(transaction.content) <= PIPELINED_BDAT:
                self._queue_chunk(transaction, transaction.content, last=True)
        self._pump()

    def send_content(self, data: bytes) -> None:
        """Send the next octets of the content. What can't go out ends the session: a content that is not
        what its facts said has no right end on the wire."""
        transaction = self._transaction
        if transaction is None or not transaction.streaming:
            return
        try:
            if transaction.chunked:
                data = transaction.guard.check(data) if transaction.guard is not None else data
                if data:
                    self._queue_chunk(transaction, data, last=False)
                    self._pump()
            elif transaction.stuffer is not None:
                self._output.append(transaction.stuffer.stuff(data))
        except ContentError:
            self._break_off(transaction)

    def end_content(self) -> None:
        """The content is whole."""
        transaction = self._transaction
        if transaction is None or not transaction.streaming:
            return
        try:
            if transaction.chunked:
                if transaction.guard is not None:
                    transaction.guard.finish()
                transaction.streaming = False
                self._queue_chunk(transaction, b"", last=True)
                self._pump()
            elif transaction.stuffer is not None:
                end = transaction.stuffer.finish()
                transaction.streaming = False
                self._finish_data(transaction, end)
        except ContentError:
            self._break_off(transaction)

    def quit(self) -> None:
        """Say QUIT; ends with `Disconnected`."""
        self._quitting = True
        self._command(b"QUIT", self._on_quit)

    # -- replies ------------------------------------------------------------------------------------------

    def _take_reply(self, answer: Reply) -> None:
        if self._pending:
            handler, argument = self._pending.popleft()
            if answer.code == 421 and handler != self._on_greeting and handler != self._on_quit:
                self.fail("the server closes the connection", answer.enhanced or "4.4.2", answer)
                return
            handler(answer, argument)
            if self._queue and not self._over:
                self._pump()
            return
        transaction = self._transaction
        if transaction is not None and transaction.streaming and not answer.positive:
            # The server had enough in the middle of DATA: there is no way to end it politely.
            self._decide_rest(transaction, answer, local=False)
            self._end_transaction()
            self.fail("the server broke off the content", answer.enhanced or "4.4.2", answer)
        elif answer.code == 421:
            self.fail("the server closes the connection", answer.enhanced or "4.4.2", answer)
        else:
            self.fail("the server answered what was not asked", "4.5.0")

    def _on_greeting(self, answer: Reply, _: int) -> None:
        self._events.append(Greeted(answer))

    def _on_hello(self, answer: Reply, _: int) -> None:
        if answer.code == 250:
            self.capabilities = parse_capabilities(answer.lines)
            self._events.append(Welcomed(self.capabilities, True))
        elif answer.permanent and answer.code != 554 and not self._options.lmtp:
            self._command(b"HELO " + self._name(), self._on_helo)  # RFC 5321 3.2
        else:
            self._events.append(HelloRefused(answer))

    def _on_helo(self, answer: Reply, _: int) -> None:
        self.capabilities = Capabilities()
        self._events.append(Welcomed(self.capabilities, False) if answer.code == 250 else HelloRefused(answer))

    def _on_start_tls(self, answer: Reply, _: int) -> None:
        if answer.code != 220:
            self._events.append(TlsRefused(answer))
        elif self._reader.buffered:  # injected in front of the handshake
            self.fail("the server sent text between STARTTLS and the handshake", "4.7.0")
        else:
            self._awaits_handshake = True
            self._events.append(TlsProceeds())

    def _on_auth(self, answer: Reply, _: int) -> None:
        mechanism = self._mechanism
        if answer.code == 334 and mechanism is not None:
            try:
                challenge = base64.b64decode(answer.lines[0].encode(), validate=True)
                response = base64.b64encode(mechanism.step(challenge))
            except (ValueError, binascii.Error) as error:
                self._mechanism = None
                words = reply(535, "5.7.8", f"The server's side of the login is wrong: {error}")
                self._events.append(AuthenticationFailed(words, True))
                self._command(b"*", self._on_ignored)
                return
            self._command(response, self._on_auth)
        elif answer.code == 235 and mechanism is not None and mechanism.done:
            self._events.append(Authenticated(answer))
        elif answer.positive:
            self.fail("the server says yes to a login that it did not prove", "5.7.8")
        else:
            self._events.append(AuthenticationFailed(answer, False))

    def _on_ignored(self, answer: Reply, _: int) -> None:
        """RSET and cancelled AUTH: the answer changes nothing."""

    def _on_quit(self, answer: Reply, _: int) -> None:
        self._over = True
        self._events.append(Disconnected("the session is over", "2.0.0", answer))

    def _on_mail(self, answer: Reply, _: int) -> None:
        transaction = self._expect_transaction()
        if answer.code // 100 == 2:
            return
        if answer.positive:
            self.fail("the answer to MAIL is no answer to MAIL", "4.5.0")
            return
        transaction.mail_refused = answer
        self._decide_rest(transaction, answer, local=False)
        if not self.capabilities.pipelining:
            self._queue.clear()
            self._needs_reset = True
            self._end_transaction()

    def _on_rcpt(self, answer: Reply, index: int) -> None:
        transaction = self._expect_transaction()
        transaction.unanswered -= 1
        if transaction.mail_refused is None:
            if answer.code // 100 == 2:
                transaction.accepted += 1
            elif answer.positive:
                self.fail("the answer to RCPT is no answer to RCPT", "4.5.0")
                return
            else:
                transaction.fates[index] = answer
        if transaction.unanswered == 0:
            self._after_recipients(transaction)

    def _after_recipients(self, transaction: _Transaction) -> None:
        if any(handler in (self._on_data, self._on_chunk) for handler, _ in self._pending):
            return  # pipelined: the answer to DATA or BDAT decides
        if transaction.accepted == 0:
            self._needs_reset = True
            self._end_transaction()
        elif not transaction.chunked:
            self._command(b"DATA", self._on_data)
        elif transaction.content is not None:
            self._queue_chunk(transaction, transaction.content, last=True)
            self._pump()
        else:
            transaction.streaming = True
            transaction.guard = None if transaction.binary else LineGuard()
            self._events.append(ContentWanted())

    def _on_data(self, answer: Reply, _: int) -> None:
        transaction = self._expect_transaction()
        if answer.code == 354:
            if transaction.accepted == 0:
                # RFC 2920 3.1: a server that goes on without recipients gets an empty content.
                transaction.ended = True
                self._write(b".\r\n", self._on_empty_content, 0)
                return
            transaction.stuffer = DotStuffer()
            if transaction.content is None:
                transaction.streaming = True
                self._events.append(ContentWanted())
                return
            # `begin` found it clean, or there would be no transaction.
            stuffed = transaction.stuffer.stuff(transaction.content)
            self._finish_data(transaction, stuffed + transaction.stuffer.finish())
        elif answer.positive:
            self.fail("the answer to DATA is no answer to DATA", "4.5.0")
        else:
            self._decide_rest(transaction, answer, local=False)
            self._needs_reset = True
            self._end_transaction()

    def _finish_data(self, transaction: _Transaction, end: bytes) -> None:
        self._output.append(end)
        transaction.ended = True
        self._expect_finals(transaction)

    def _expect_finals(self, transaction: _Transaction) -> None:
        """The answers to the whole content: one, or in LMTP one a recipient (RFC 2033 section 4.2)."""
        if not self._options.lmtp:
            self._pending.append((self._on_final, -1))
            return
        for index, fate in enumerate(transaction.fates):
            if fate is None:
                self._pending.append((self._on_final, index))

    def _on_final(self, answer: Reply, index: int) -> None:
        transaction = self._expect_transaction()
        if answer.code // 100 == 3:
            self.fail("the answer to the content is no answer", "4.5.0")
            return
        if index < 0:
            self._decide_rest(transaction, answer, local=False)
        else:
            transaction.fates[index] = answer
        if None not in transaction.fates:
            self._needs_reset = not answer.positive
            self._end_transaction()

    def _on_empty_content(self, answer: Reply, _: int) -> None:
        self._needs_reset = True
        self._end_transaction()

    # -- BDAT (RFC 3030) ----------------------------------------------------------------------------------

    def _queue_chunk(self, transaction: _Transaction, data: bytes, *, last: bool) -> None:
        head = b"BDAT %d LAST\r\n" % len(data) if last else b"BDAT %d\r\n" % len(data)
        self._queue.append((head + data, self._on_chunk, 1 if last else 0))
        transaction.ended = last

    def _on_chunk(self, answer: Reply, last: int) -> None:
        transaction = self._expect_transaction()
        if answer.code // 100 == 3:
            self.fail("the answer to BDAT is no answer", "4.5.0")
        elif not last:
            if answer.positive:
                return
            # What was sent behind it has no defined answers (RFC 3030 section 2): the connection goes.
            self._decide_rest(transaction, answer, local=False)
            self._end_transaction()
            self.fail("the server refused a part of the content", answer.enhanced or "4.4.2", answer)
        elif self._options.lmtp and transaction.accepted and answer.positive:
            self._first_lmtp_final(transaction, answer)
        else:
            self._decide_rest(transaction, answer, local=False)
            self._needs_reset = not answer.positive
            self._end_transaction()

    def _first_lmtp_final(self, transaction: _Transaction, answer: Reply) -> None:
        waiting = [index for index, fate in enumerate(transaction.fates) if fate is None]
        self._pending.extendleft((self._on_final, index) for index in reversed(waiting[1:]))
        self._on_final(answer, waiting[0])

    # -- inside -------------------------------------------------------------------------------------------

    def _name(self) -> bytes:
        return self._options.hostname.encode("ascii")

    def _command(self, line: bytes, handler: _Handler) -> None:
        self._write(line + b"\r\n", handler, 0)

    def _write(self, data: bytes, handler: _Handler, argument: int) -> None:
        if self._over:
            return
        self._output.append(data)
        self._pending.append((handler, argument))

    def _pump(self) -> None:
        if self.capabilities.pipelining:
            while self._queue:
                self._write(*self._queue.popleft())
        elif self._queue and not self._pending:
            self._write(*self._queue.popleft())

    def _expect_transaction(self) -> _Transaction:
        if self._transaction is None:
            raise AssertionError("a reply of a transaction arrived outside one")
        return self._transaction

    def _decide_rest(self, transaction: _Transaction, answer: Reply, *, local: bool) -> None:
        for index, fate in enumerate(transaction.fates):
            if fate is None:
                transaction.fates[index] = answer
                transaction.ours[index] = local

    def _break_off(self, transaction: _Transaction) -> None:
        self._decide_rest(transaction, UNCLEAN_CONTENT, local=True)
        self._end_transaction()
        self.fail("the content can't be sent", "5.6.1")

    def _end_transaction(self) -> None:
        transaction = self._expect_transaction()
        self._transaction = None
        outcomes = tuple(
            RecipientOutcome(recipient, fate, ours)
            for recipient, fate, ours in zip(transaction.recipients, transaction.fates, transaction.ours, strict=True)
            if fate is not None
        )
        self._events.append(TransactionEnded(outcomes, self.capabilities.dsn))
