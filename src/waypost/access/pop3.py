"""A POP3 session: the engine joined with the login desk and the mailboxes (RFC 1939).

The mailbox is held exclusively from the login on, and seen as it was then. Messages are removed at QUIT only, in
steps that hold nobody else up, and the mailbox is given back on every way out.
"""

import logging
import math
from collections.abc import Callable

from waypost.access.pop3_form import SentForms
from waypost.access.pop3_mailbox import OpenMailbox
from waypost.login.attempt import LoginAttempt
from waypost.login.desk import LoginDesk
from waypost.login.outcomes import Challenge, LoginFault, LoginRefused
from waypost.message.trace import Micros
from waypost.protocol.pop3 import replies
from waypost.protocol.pop3.events import (
    AuthCancelled,
    AuthResponse,
    AuthStarted,
    Closed,
    JunkSaid,
    Leaving,
    MessageWanted,
    PasswordGiven,
    Pop3Event,
    StartTls,
)
from waypost.protocol.pop3.replies import Pop3Reply
from waypost.protocol.pop3.server import Pop3Options, Pop3Server
from waypost.protocol.session import EVENTS_A_TURN, JUNK_PAUSE, Ending, Next, Peer, Session, TlsInfo
from waypost.storage import Account, AccountChanged, Conflict, Mailboxes, StorageError

log = logging.getLogger(__name__)

LOGIN_TIMEOUT = 60.0
"""Seconds that a client may be silent before it has logged in."""

_ANSWERS_A_TURN = 64  # before others work


_FAREWELLS: dict[Ending, tuple[Pop3Reply | None, str]] = {
    Ending.TIMED_OUT: (None, "the client was silent for too long"),
    Ending.STOPPING: (replies.SHUTTING_DOWN, "the service is stopping"),
    Ending.ACCOUNT_CHANGED: (replies.ACCOUNT_CHANGED, "the account has changed"),
    Ending.BY_OPERATOR: (replies.ENDED_BY_OPERATOR, "the operator has ended it"),
}


class Pop3Session(Session):
    """One POP3 client.

    `timeout` is the seconds it may be silent after the login: RFC 1939 3 asks for ten minutes; `login_time` the seconds
    until it must have logged in. `forms` are shared with the other sessions of the process; None makes them for this
    one. `max_junk` is `limits.junk_commands`.
    """

    def __init__(
        self,
        *,
        desk: LoginDesk,
        mailboxes: Mailboxes,
        now: Callable[[], Micros],
        hostname: str,
        starttls: bool,
        timeout: float = 600.0,
        forms: SentForms | None = None,
        max_junk: int = 100,
        login_time: float = 180.0,
    ) -> None:
        self._desk = desk
        self._mailboxes = mailboxes
        self._forms = forms or SentForms(mailboxes)
        self._now = now
        self._timeout = timeout
        self._login_time = login_time
        self._engine = Pop3Server(
            Pop3Options(hostname, starttls=starttls, max_junk=max_junk, max_answers=_ANSWERS_A_TURN)
        )
        self._peer = Peer("", 0, "", 0)
        self._tls: TlsInfo | None = None
        self._attempt: LoginAttempt | None = None
        self._patience = desk.patience()
        self._mechanism = ""
        self._account: Account | None = None
        self._mailbox: OpenMailbox | None = None
        self._held: list[bytes] = []  # output, where no connection drains it

    # What the connection calls.

    async def start(self, peer: Peer) -> Next:
        """Greet."""
        self._peer = peer
        if peer.tls is not None:
            self.tls_started(peer.tls)
        self._engine.greet()
        return Next.READ

    def receive(self, data: bytes) -> None:
        """Take input."""
        self._engine.receive(data)

    def receive_eof(self) -> None:
        """The peer will send no more."""
        self._engine.receive_eof()

    @property
    def wants_input(self) -> bool:
        """False while enough input is buffered."""
        return self._engine.wants_input

    async def advance(self) -> Next:
        """Handle what was received. While much output waits it is drained first, so that it stays bounded."""
        engine, handled = self._engine, 0
        try:
            while True:
                event = engine.next_event()
                if event is not None:
                    await self._handle(event)
                    handled += 1
                elif not engine.full:
                    break
                # After junk the answer leaves at once: only what is written to a client shows that it has gone.
                if engine.full or handled >= EVENTS_A_TURN or type(event) is JunkSaid:
                    handled = 0
                    await self._drain()
        except Exception:
            engine.shut_down(replies.INTERNAL, "a fault of ours")
            raise
        if engine.closed:
            return Next.CLOSE
        return Next.START_TLS if engine.awaits_handshake else Next.READ

    def take_output(self) -> bytes:
        """Return and forget the bytes to write."""
        output = self._engine.take_output()
        if self._held:
            output = b"".join((*self._held, output))
            self._held.clear()
        return output

    def tls_started(self, tls: TlsInfo) -> None:
        """The handshake is done."""
        self._tls = tls
        self._engine.tls_started(self._desk.mechanisms(tls))

    @property
    def busy(self) -> bool:
        """True while a message goes out, and while deletions wait for QUIT."""
        return self._engine.sending or self._engine.marked

    @property
    def timeout(self) -> float:
        """Seconds that the peer may stay silent in the present state."""
        return LOGIN_TIMEOUT if self._mailbox is None else self._timeout

    @property
    def lasts(self) -> float:
        """Seconds until the client must have logged in."""
        return self._login_time if self._mailbox is None else math.inf

    @property
    def account(self) -> Account | None:
        """The account that has logged in."""
        return self._account

    def shut_down(self, why: Ending) -> None:
        """End the session without removing anything; after a time-out in silence, as RFC 1939 3 asks."""
        self._give_up_login()
        reply, reason = _FAREWELLS[why]
        self._engine.shut_down(reply, reason)

    def lost(self) -> None:
        """The connection is gone: nobody waits for a login any more, and it keeps no place."""
        self._give_up_login()

    def closed(self) -> None:
        """Give the mailbox back."""
        self._give_up_login()
        if self._mailbox is not None:
            self._mailbox.release()
            self._mailbox.log_closed(self._peer.address)
            self._mailbox = None

    # Events.

    async def _handle(self, event: Pop3Event) -> None:
        match event:
            case MessageWanted():
                await self._send(event)
            case PasswordGiven():
                await self._check_password(event)
            case AuthStarted():
                self._mechanism = event.mechanism
                self._attempt = self._desk.begin(event.mechanism, tls=self._tls, peer=self._peer.address)
                await self._step(self._attempt, event.initial)
            case AuthResponse() if self._attempt is not None:
                await self._step(self._attempt, event.data)
            case AuthCancelled():
                self._attempt = None
            case StartTls():
                self._engine.answer(replies.START_TLS)
            case Leaving():
                await self._leave(event)
            case JunkSaid():
                if self.pause is not None:
                    await self.pause(JUNK_PAUSE)
            case AuthResponse() | Closed():
                return

    # The login.

    async def _check_password(self, event: PasswordGiven) -> None:
        self._mechanism = "USER"
        try:
            account = await self._desk.check_password(event.user, event.password, self._peer.address, self._patience)
        except LoginRefused as refused:
            self._engine.answer(_refusal(refused))
            return
        await self._enter(account)

    async def _step(self, attempt: LoginAttempt, data: bytes | None) -> None:
        try:
            outcome = await attempt.step(data)
        except LoginRefused as refused:
            self._attempt = None
            self._engine.answer(_refusal(refused))
            return
        if isinstance(outcome, Challenge):
            self._engine.challenge(outcome.data)
            return
        self._attempt = None
        await self._enter(outcome.account)

    def _give_up_login(self) -> None:
        """A login that waits for its turn waits no more."""
        self._patience.end()
        if self._attempt is not None:
            self._attempt.give_up()

    async def _enter(self, account: Account) -> None:
        """Open the mailbox of an account that is logged in."""
        fields: dict[str, object] = {"account": account.address, "peer": self._peer.address}
        self._account = account  # from now on the session is found by it (`Session.account`)
        try:
            mailbox = await OpenMailbox.open(self._mailboxes, self._forms, account, self._now, utf8=self._engine.utf8)
        except Conflict:
            log.info("mailbox in use", extra={"fields": fields})
            self._refuse_entry(replies.IN_USE)
            return
        except StorageError as error:
            log.warning("mailbox not opened", extra={"fields": fields | {"problem": str(error)}})
            self._refuse_entry(replies.INTERNAL)
            return
        if not await self._desk.may_go_on(account):
            mailbox.release()
            self._refuse_entry(replies.AUTH_FAILED)
            return
        self._mailbox = mailbox
        fields |= {
            "mechanism": self._mechanism,
            "tls": f"{self._tls.version} {self._tls.cipher}" if self._tls else None,
            "messages": mailbox.maildrop.count,
            "octets": mailbox.maildrop.octets,
        }
        log.info("mailbox opened", extra={"fields": fields})
        self._engine.enter(mailbox.maildrop)

    def _refuse_entry(self, reply: Pop3Reply) -> None:
        self._account = None
        self._engine.answer(reply)

    # The mailbox.

    async def _send(self, wanted: MessageWanted) -> None:  # hot: bench/pop3
        """Send a message, or its top."""
        engine, mailbox, top = self._engine, self._open_mailbox, wanted.lines is not None
        size = mailbox.maildrop.size(wanted.index)
        begun = False
        try:
            async for piece in mailbox.pieces(wanted.index, top=top):
                if not begun:
                    engine.begin(size)
                    begun = True
                if not engine.write(piece):
                    break
                if engine.full:
                    await self._drain()
        except StorageError as error:
            self._log_problem("message not read", error, uid=mailbox.maildrop.uid(wanted.index))
            if begun:
                # There is no way to take the octets back: the client sees a message without an end.
                engine.shut_down(None, "a message could not be read")
            else:
                engine.answer(replies.INTERNAL)
            return
        engine.end()
        if not top and not engine.closed:
            mailbox.sent(wanted.index)

    async def _leave(self, leaving: Leaving) -> None:
        """Enter the UPDATE state (RFC 1939 6): remove what is marked, give the mailbox back, then answer."""
        mailbox = self._open_mailbox
        try:
            await mailbox.remove(leaving.deleted)
        except AccountChanged:
            reply = replies.ACCOUNT_CHANGED
        except StorageError as error:
            self._log_problem("messages not removed", error, messages=len(leaving.deleted))
            reply = replies.NOT_REMOVED
        else:
            reply = replies.BYE
        mailbox.release()  # before the answer: the client may come back at once
        self._engine.answer(reply)

    @property
    def _open_mailbox(self) -> OpenMailbox:
        if self._mailbox is None:
            raise RuntimeError("the engine asks for messages before the login")
        return self._mailbox

    async def _drain(self) -> None:
        if self.drain is None:
            self._held.append(self._engine.take_output())
            return
        await self.drain()

    def _log_problem(self, event: str, error: StorageError, **facts: int) -> None:
        fields = {"peer": self._peer.address, **facts, "problem": str(error)}
        log.warning(event, extra={"fields": fields})


def _refusal(refused: LoginRefused) -> Pop3Reply:
    """Return the words for a refused login (RFC 3206, RFC 2449 8.1.1)."""
    match refused.fault:
        case LoginFault.WRONG:
            return replies.AUTH_FAILED
        case LoginFault.THROTTLED:
            return replies.throttled(refused.seconds)
        case LoginFault.BINDING:
            return replies.AUTH_BINDING
        case LoginFault.MALFORMED:
            return replies.AUTH_MALFORMED
        case LoginFault.UNAVAILABLE:
            return replies.AUTH_UNAVAILABLE
