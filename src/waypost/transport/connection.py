"""A session with one server, step by step: greeting, EHLO, TLS, login, and one message after the other.

On the straight road a message costs one wait. Every way in which a server lets us down before the first message is
a `ServerFailed`; from then on each recipient has a fate, and nothing is raised for what a server does.
"""

import ssl
from collections.abc import AsyncIterator, Callable

from waypost.config.settings import IpAddress
from waypost.message.envelope import Envelope, Recipient
from waypost.protocol.reply import Reply
from waypost.protocol.smtp.capabilities import Capabilities
from waypost.protocol.smtp.client import ClientMechanism, SmtpClient
from waypost.protocol.smtp.client_events import (
    Authenticated,
    AuthenticationFailed,
    ClientEvent,
    ContentWanted,
    Disconnected,
    Greeted,
    HelloRefused,
    TlsProceeds,
    TlsRefused,
    TransactionEnded,
    Welcomed,
)
from waypost.protocol.smtp.outgoing import ContentFacts
from waypost.transport.broken_tls import lasts
from waypost.transport.next_hops import Server
from waypost.transport.tls_client import Secured, secured, tls_words
from waypost.transport.wire import Wire


class ServerFailed(Exception):
    """A server can't be used now. `reply` has its words where it spoke; else the message has ours.

    `status` is the RFC 3463 code of what happened. `ours`: it is this machine that lacks something. `server` and
    `source` say where, once it is known.
    """

    def __init__(self, words: str, status: str, reply: Reply | None = None, *, ours: bool = False) -> None:
        super().__init__(words)
        self.status = status
        self.reply = reply
        self.ours = ours
        self.server: Server | None = None
        self.source: str | None = None
        self.tls: Secured | None = None

    @property
    def never(self) -> bool:
        """True when the host says that it takes no mail at all (RFC 7504)."""
        return self.reply is not None and self.reply.code in (521, 556)


class TlsFailed(ServerFailed):
    """The handshake failed, or the certificate is not trusted: another session may do without.

    `lasting`: another handshake would fail alike.
    """

    def __init__(self, words: str, status: str, *, lasting: bool) -> None:
        super().__init__(words, status)
        self.lasting = lasting


class OutboundConnection:
    """A session with one server. Calls never overlap. At most `most` transactions go over it.

    `source` is our IP address; where the system chooses it, the socket's.
    """

    __slots__ = ("_engine", "_wire", "carried", "endpoint", "most", "server", "source", "tls")

    def __init__(
        self, engine: SmtpClient, wire: Wire, server: Server, *, most: int, source: IpAddress | None = None
    ) -> None:
        self._engine = engine
        self._wire = wire
        self.server = server
        self.source = wire.source if source is None else str(source)
        self.endpoint = server.endpoint
        self.most = most
        self.carried = 0
        """How many transactions went over it."""
        self.tls: Secured | None = None
        """What the handshake reached; None while there was none."""

    def when_gone(self, ended: Callable[["OutboundConnection"], None]) -> None:
        """Call `ended` once, when the socket is gone."""
        self._wire.when_gone(lambda: ended(self))

    @property
    def fit(self) -> bool:
        """True while another message may go over it."""
        return not self._engine.over and not self._wire.leaving and self.carried < self.most

    @property
    def over(self) -> bool:
        """True when the session has ended, from whichever side."""
        return self._engine.over

    @property
    def capabilities(self) -> Capabilities:
        """What the server offers now."""
        return self._engine.capabilities

    # -- the beginning -------------------------------------------------------------------------------------

    def secured(self, *, verified: bool) -> None:
        """Record what the handshake reached."""
        handshake = self._wire.handshake
        self.tls = secured(handshake, verified=verified) if handshake is not None else None

    async def greeting(self) -> None:
        """Wait for the greeting. Raises `ServerFailed` when it is a refusal."""
        event = await self._wire.event()
        if isinstance(event, Greeted) and event.reply.code == 220:
            return
        raise _failure(event, event.reply if isinstance(event, Greeted) else None)

    @property
    def declined_tls(self) -> bool:
        """True where the server offers TLS that this session does without."""
        return self.tls is None and self._engine.capabilities.starttls

    async def hello(self, *, after_handshake: bool = False) -> None:
        """Say EHLO. Raises `ServerFailed`.

        `after_handshake`: a connection that is lost before the answer is a failure of TLS. In TLS 1.3 a server that
        refuses our side of the handshake says so only after we have finished it (RFC 8446 section 4.4.2.4).
        """
        self._engine.hello()
        event = await self._wire.event()
        if not isinstance(event, Welcomed):
            if after_handshake and self._wire.lost:
                error = self._wire.lost_by
                words = "the connection was lost after the TLS handshake" if error is None else tls_words(error)
                raise TlsFailed(words, "4.7.5", lasting=error is not None and lasts(error))
            raise _failure(event, event.reply if isinstance(event, HelloRefused) else None)
        if event.capabilities.mail_max is not None:  # RFC 9422 section 4.1
            self.most = min(self.most, event.capabilities.mail_max)

    async def start_tls(self, context: ssl.SSLContext, name: str | None, *, verified: bool) -> Reply | None:
        """Say STARTTLS and shake hands; returns the reply of a server that refuses.

        Raises `TlsFailed` when the handshake fails, `ServerFailed` for everything else.
        """
        self._engine.start_tls()
        event = await self._wire.event()
        if isinstance(event, TlsRefused):
            return event.reply
        if isinstance(event, TlsProceeds) and self._engine.over:  # text came behind the 220
            event = await self._wire.event()
        if not isinstance(event, TlsProceeds):
            raise _failure(event, None)
        try:
            await self._wire.shake_hands(context, name)
        except (OSError, ValueError) as error:
            raise TlsFailed(tls_words(error), "4.7.5", lasting=lasts(error)) from error
        self.secured(verified=verified)
        return None

    async def log_in(self, mechanism: ClientMechanism) -> None:
        """Log in. Raises `ServerFailed`."""
        self._engine.authenticate(mechanism)
        event = await self._wire.event()
        if isinstance(event, AuthenticationFailed):
            if event.local:
                raise ServerFailed(event.reply.text, "4.7.8")
            raise ServerFailed(f"the login was refused: {event.reply}", "4.7.8", event.reply)
        if not isinstance(event, Authenticated):
            raise _failure(event, None)

    # -- messages ------------------------------------------------------------------------------------------

    async def transact(
        self,
        envelope: Envelope,
        recipients: tuple[Recipient, ...],
        content: bytes | ContentFacts,
        pieces: Callable[[], AsyncIterator[bytes]],
    ) -> TransactionEnded:  # hot: bench/relay
        """Run one transaction to its end, whatever that is. `pieces` reads a content that is given by its facts.

        What `pieces` raises comes out of here, and the connection is gone then.
        """
        self._engine.begin(envelope, recipients, content)
        self.carried += 1
        event = await self._wire.event()
        while not isinstance(event, TransactionEnded):
            if isinstance(event, ContentWanted):
                await self._wire.stream(pieces())
            event = await self._wire.event()
        return event

    # -- the end -------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Take no further message."""
        self.most = 0

    def leave(self) -> None:
        """Say QUIT; the connection ends by itself when the server has answered, or soon after."""
        self._wire.leave()

    async def quit(self) -> None:
        """Say QUIT, and return when the connection is gone."""
        await self._wire.quit()

    def abort(self) -> None:
        """End the connection at once."""
        self._wire.abort()


def _failure(event: ClientEvent, reply: Reply | None) -> ServerFailed:
    if reply is None and isinstance(event, Disconnected):
        reply = event.reply
    if reply is not None and not reply.positive:
        return ServerFailed(str(reply), reply.enhanced or ("4.3.2" if reply.code == 421 else "4.3.0"), reply)
    if isinstance(event, Disconnected):
        return ServerFailed(event.reason, event.status)
    return ServerFailed("the server broke the order of the protocol", "4.5.0")
