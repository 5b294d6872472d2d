"""One SMTP or LMTP session: joins the engine with a policy, the login desk and storage (RFC 5321, RFC 2033).

Bytes come in by `receive`, `advance` handles them, `take_output` returns the octets to write. Errors of the disk and
our own bugs are answered here, so that the session goes on; `closed` releases everything it holds, however it ended.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from waypost.config.settings import SECOND, Limits
from waypost.intake.acceptance import Acceptance
from waypost.intake.client import Client
from waypost.intake.content import ArrivingContent
from waypost.intake.greeting import GreetingDelay
from waypost.intake.login import SessionLogin
from waypost.intake.memory import ArrivingMemory
from waypost.intake.policy import Policy
from waypost.intake.tasks import stopped
from waypost.intake.transaction import Transaction, TransactionEnd
from waypost.login.desk import LoginDesk
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.session import EVENTS_A_TURN, JUNK_PAUSE, Ending, Next, Peer, TlsInfo
from waypost.protocol.smtp import replies
from waypost.protocol.smtp.events import (
    AuthCancelled,
    AuthResponse,
    AuthStarted,
    Closed,
    DataStarted,
    Hello,
    JunkSaid,
    MailOffered,
    MessageChunk,
    MessageEnded,
    MessageRefused,
    MuchSaid,
    RecipientOffered,
    ServerEvent,
    StartTls,
    TransactionReset,
)
from waypost.protocol.smtp.server import ServerOptions, SmtpServer
from waypost.storage import Account, Spool, StorageError, StorageFull
from waypost.storage.queue import reverse_path_text

log = logging.getLogger(__name__)

_CONTENT_TIMEOUT = 180.0
"""Seconds between two pieces of content: a client gives up on a block after three minutes (RFC 5321 4.5.3.2.5)."""

_NOBODY = Peer("", 0, "", 0)
_MOST_REACHED = 10_000  # mailboxes and addresses of one message; more recipients need another (docs/decisions/0032)


class SmtpSession:
    """Implements `protocol.session.Session` for one connection.

    `desk` is None where AUTH is not offered. `greeting_delay` is in seconds: a client that speaks in this time, before
    the greeting, is not a mail server, and its session ends. `refuses` returns the reply that a client gets instead of
    the greeting, or None.
    """

    __slots__ = (
        "_acceptance",
        "_client",
        "_engine",
        "_farewell",
        "_greeting_delay",
        "_limits",
        "_lmtp",
        "_login",
        "_memory",
        "_policy",
        "_refuses",
        "_spool",
        "_stopping",
        "_storing",
        "_tls_wanted",
        "_transaction",
        "drain",
        "pause",
        "wake",
    )

    def __init__(
        self,
        *,
        options: ServerOptions,
        policy: Policy,
        acceptance: Acceptance,
        desk: LoginDesk | None,
        spool: Spool,
        now: Callable[[], Micros],
        limits: Limits,
        greeting_delay: float = 0.0,
        memory: ArrivingMemory | None = None,
        refuses: Callable[[Peer], Reply | None] = lambda peer: None,
    ) -> None:
        self.drain: Callable[[], Awaitable[None]] | None = None
        self.pause: Callable[[float], Awaitable[None]] | None = None
        self.wake: Callable[[], None] | None = None
        self._engine = SmtpServer(options, now=now)
        self._lmtp = options.lmtp
        self._policy = policy
        self._acceptance = acceptance
        self._login = SessionLogin(desk)
        self._spool = spool
        self._limits = limits
        self._greeting_delay = GreetingDelay(greeting_delay)
        self._memory = memory
        self._refuses = refuses
        self._client = Client(_NOBODY)
        self._transaction: Transaction | None = None
        self._stopping: set[asyncio.Task[None]] = set()  # tasks of an ended transaction that still have to stop
        self._tls_wanted = False
        self._storing = False
        self._farewell: Reply | None = None  # the 421 to send after the reply to the message that is being stored

    async def start(self, peer: Peer) -> Next:
        """Greet the client; with a greeting delay, refuse a client that speaks first."""
        self._client = Client(peer)
        self._spool.expect(self)
        if peer.tls is not None:
            self._engine.tls_started(self._login.mechanisms(peer.tls))
        refusal = self._refuses(peer)
        if refusal is not None:
            log.info("stranger refused", extra={"fields": self._client.facts})
            self._engine.greet(refusal)
            return self._next()
        early = await self._greeting_delay.wait() and self._engine.has_input
        if not self._engine.closed:
            self._engine.greet(replies.EARLY_TALKER if early else None)
            if early:
                log.info("early talker refused", extra={"fields": self._client.facts})
        return self._next()

    def receive(self, data: bytes) -> None:
        """Take input."""
        self._engine.receive(data)
        self._greeting_delay.end()

    def receive_eof(self) -> None:
        """The peer will send no more."""
        self._engine.receive_eof()
        self._greeting_delay.end()

    @property
    def wants_input(self) -> bool:
        """False while enough input is buffered."""
        return self._engine.wants_input

    async def advance(self) -> Next:  # hot: bench/accept
        """Handle what was received until more input is needed."""
        engine, handled = self._engine, 0
        while (event := engine.next_event()) is not None:
            try:
                await _HANDLERS[type(event)](self, event)
            except StorageError as error:
                self._fail(event, error)
            except Exception:
                log.exception("a bug in an SMTP session", extra={"fields": self._client.facts})
                self._answer_failure(event, replies.INTERNAL)
            if self._stopping:
                await self._stop()
            if self._tls_wanted:
                return Next.START_TLS
            handled += 1
            # After a useless command write the reply at once: only a write shows that the client has gone.
            if (handled >= EVENTS_A_TURN or engine.says_much or type(event) is JunkSaid) and self.drain is not None:
                handled = 0
                await self.drain()
        return self._next()

    def _next(self) -> Next:
        return Next.CLOSE if self._engine.closed else Next.READ

    def _fail(self, event: ServerEvent, error: StorageError) -> None:
        reply = replies.STORAGE_FULL if isinstance(error, StorageFull) else replies.INTERNAL
        log.error("storage trouble", extra={"fields": {**self._client.facts, "error": str(error), "reply": str(reply)}})
        self._answer_failure(event, reply)

    def _answer_failure(self, event: ServerEvent, reply: Reply) -> None:
        """Report an error on our side to the client: now, or when the message is whole."""
        transaction = self._transaction
        if isinstance(event, MessageChunk):
            if transaction is not None and transaction.content is not None:
                transaction.content.fail(reply)
        elif isinstance(event, MessageEnded):
            self._finish(reply)
        else:
            self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        if self._engine.asks:  # false when the session was shut down while the answer was computed
            self._engine.answer(reply)

    def take_output(self) -> bytes:
        """Return and forget the bytes to write."""
        return self._engine.take_output()

    def tls_started(self, tls: TlsInfo) -> None:
        """The handshake is done: forget the name that the client gave before (RFC 3207 4.2)."""
        self._tls_wanted = False
        self._client = Client(replace(self._client.peer, tls=tls))
        self._engine.tls_started(self._login.mechanisms(tls))

    @property
    def busy(self) -> bool:
        """True between MAIL and the answer to its message."""
        return self._engine.envelope is not None and not self._engine.closed

    @property
    def timeout(self) -> float:
        """Seconds that the peer may stay silent (RFC 5321 4.5.3.2)."""
        seconds = self._limits.command_timeout / SECOND
        return min(seconds, _CONTENT_TIMEOUT) if self._engine.reads_content else seconds

    @property
    def lasts(self) -> float:
        """Seconds within which the client must log in, where a login is required; at least the command time-out."""
        if not self._login.required or self._client.account is not None:
            return math.inf
        return max(self._limits.login_time, self._limits.command_timeout) / SECOND

    @property
    def account(self) -> Account | None:
        """The account that has logged in, or in whose name a trusted device sends."""
        return self._client.account

    def shut_down(self, why: Ending) -> None:
        """End the session with a 421 that says why.

        A message that is being stored is answered first: a 421 instead of its 250 would make the client send it again.
        """
        reply = replies.FAREWELLS[why]
        if self._storing:
            self._farewell = reply
        else:
            self._engine.shut_down(reply)
        self._login.end()
        self._greeting_delay.end()

    def lost(self) -> None:
        """The connection is gone: end a login that waits, and free its place."""
        self._login.end()

    def closed(self) -> None:
        """The connection is gone: discard the message that was arriving."""
        self._spool.expect_no_more(self)
        self._end(TransactionEnd.LOST)
        self._login.end()

    # Events.

    async def _hello(self, event: Hello) -> None:
        self._client.helo, self._client.extended = event.name, event.extended
        self._answer(self._policy.hello(self._client))

    async def _starttls(self, event: StartTls) -> None:
        self._answer(replies.START_TLS)
        self._tls_wanted = True

    async def _mail(self, event: MailOffered) -> None:
        begun = await self._policy.mail(self._client, event.envelope)
        if isinstance(begun, Reply):
            self._log_refusal("sender refused", begun, sender=reverse_path_text(event.envelope.reverse_path))
            self._answer(begun)
            return
        self._transaction = begun
        self._spool.expect(self)
        self._answer(replies.SENDER_OK)

    async def _recipient(self, event: RecipientOffered) -> None:
        transaction = self._transaction
        assert transaction is not None
        if transaction.reached_in_all >= _MOST_REACHED:
            self._answer(replies.TOO_MANY_RECIPIENTS)
            return
        admitted = await transaction.judge.recipient(transaction, event.recipient)
        if isinstance(admitted, Reply):
            sender = reverse_path_text(transaction.envelope.reverse_path)
            self._log_refusal("recipient refused", admitted, sender=sender, recipient=str(event.recipient.address))
            self._answer(admitted)
        else:
            transaction.admit(admitted)
            self._answer(replies.RECIPIENT_OK)

    def _log_refusal(self, what: str, reply: Reply, **facts: str) -> None:
        log.info(what, extra={"fields": {**self._client.facts, **facts, "reply": str(reply)}})

    async def _data(self, event: DataStarted) -> None:
        assert self._transaction is not None
        self._transaction.open_content(ArrivingContent(self._spool.new_body, self._limits.header_size, self._memory))
        self._answer(replies.GO_AHEAD)

    async def _chunk(self, event: MessageChunk) -> None:  # hot: bench/accept
        assert self._transaction is not None
        assert self._transaction.content is not None
        await self._transaction.content.write(event.data)

    async def _ended(self, event: MessageEnded) -> None:
        transaction = self._transaction
        assert transaction is not None
        content = transaction.content
        assert content is not None
        await content.finish()
        if content.failure is not None:
            self._log_refusal("content refused", content.failure)
            self._finish(content.failure)
        else:
            self._spool.expect_no_more(self)
            self._storing = True
            if self._lmtp:
                self._finish(*await self._acceptance.accept_each(transaction))
            else:
                self._finish(await self._acceptance.accept(transaction))

    def _finish(self, *answers: Reply) -> None:
        """End the transaction and answer the end of its message; in LMTP with one reply a recipient, or one for all."""
        transaction = self._transaction
        recipients = len(transaction.admitted) if transaction is not None else 0
        self._end(TransactionEnd.STORED if any(one.positive for one in answers) else TransactionEnd.REFUSED)
        self._storing = False
        if not self._engine.asks:
            return  # shut down before it was stored
        self._spool.expect(self)  # a client that has sent one message may send the next at once
        if self._lmtp:
            self._engine.answer_each(list(answers) if len(answers) == recipients else [answers[0]] * recipients)
        else:
            self._engine.answer(answers[0])
        if self._farewell is not None:
            self._engine.shut_down(self._farewell)

    async def _refused(self, event: MessageRefused) -> None:
        log.info("content refused", extra={"fields": {**self._client.facts, "reason": event.reason}})
        self._end(TransactionEnd.REFUSED)

    async def _reset(self, event: TransactionReset) -> None:
        self._end(TransactionEnd.RESET)

    def _end(self, outcome: TransactionEnd) -> None:
        if self._transaction is not None:
            self._stopping |= self._transaction.end(outcome)
            self._transaction = None

    async def _stop(self) -> None:
        """Write the reply, then wait until the tasks of the ended transaction have stopped."""
        stopping, self._stopping = self._stopping, set()
        if self.drain is not None:
            await self.drain()
        await stopped(stopping)

    async def _much_said(self, event: MuchSaid) -> None:
        """Do nothing: `advance` writes the replies and lets other sessions run."""

    async def _junk_said(self, event: JunkSaid) -> None:
        if self.pause is not None:
            await self.pause(JUNK_PAUSE)

    async def _closed(self, event: Closed) -> None:
        self._end(TransactionEnd.LOST)
        self._spool.expect_no_more(self)

    # Logging in.

    async def _auth_started(self, event: AuthStarted) -> None:
        self._go_on(await self._login.begin(self._client, event.mechanism, event.initial))

    async def _auth_response(self, event: AuthResponse) -> None:
        self._go_on(await self._login.step(self._client, event.data))

    def _go_on(self, said: bytes | Reply) -> None:
        if isinstance(said, Reply):
            self._answer(said)
        elif self._engine.asks:
            self._engine.challenge(said)

    async def _auth_cancelled(self, event: AuthCancelled) -> None:
        self._login.cancel()


_HANDLERS: dict[type, Callable[[SmtpSession, Any], Awaitable[None]]] = {
    Hello: SmtpSession._hello,
    StartTls: SmtpSession._starttls,
    AuthStarted: SmtpSession._auth_started,
    AuthResponse: SmtpSession._auth_response,
    AuthCancelled: SmtpSession._auth_cancelled,
    MailOffered: SmtpSession._mail,
    RecipientOffered: SmtpSession._recipient,
    DataStarted: SmtpSession._data,
    MessageChunk: SmtpSession._chunk,
    MessageEnded: SmtpSession._ended,
    MessageRefused: SmtpSession._refused,
    TransactionReset: SmtpSession._reset,
    MuchSaid: SmtpSession._much_said,
    JunkSaid: SmtpSession._junk_said,
    Closed: SmtpSession._closed,
}
