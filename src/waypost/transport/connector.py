"""From a way to a connection that is ready for messages: servers in order, TLS, login (RFC 5321 5.1, RFC 7435).

A server that can't be reached, greets with 4xx or 5xx, or fails in any way before the first message hands over
to the next (RFC 5321 5.1: each of the addresses is tried until one succeeds). When no server is left,
the failure is permanent only if every server said 521 (RFC 7504: this host never takes mail). A 554 greeting
may as well mean "not from you" or "not now" (RFC 7504 section 1 tells the two apart): it blames us, it is mended
by the operator or by time, and mail that waited costs less than mail that was returned by mistake.
"""

import asyncio
import errno
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from enum import Enum, auto

from waypost.config.settings import EgressSource, TlsPolicy
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.sasl import choose
from waypost.protocol.smtp.client import ClientOptions, SmtpClient
from waypost.transport.broken_tls import lasts
from waypost.transport.connection import OutboundConnection, ServerFailed, TlsFailed
from waypost.transport.egress import Egress, EgressSources
from waypost.transport.next_hops import NextHops, Server
from waypost.transport.pool import Pool, Wish
from waypost.transport.tls_client import TlsClient, tls_words
from waypost.transport.wire import Timeouts, Wire

log = logging.getLogger(__name__)

_TLS_TRIES = 2  # in one attempt: a second handshake often meets a server that has restarted meanwhile
_MOST_SERVERS = 10  # of one way; more addresses than that only cost time
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PASSWORD_SENT = frozenset({"PLAIN", "LOGIN"})  # mechanisms that hand the password to the server


class NobodyAnswers(Exception):
    """No server of the way took the connection; the message says it for people.

    `reply` and `server` are of the last one that spoke, or else of the last one tried.
    """

    def __init__(self, failures: Sequence[ServerFailed], *, all_asked: bool = True) -> None:
        last = next((failure for failure in reversed(failures) if failure.reply is not None), failures[-1])
        self.permanent = all_asked and all(failure.never for failure in failures)
        self.reply = last.reply
        self.server = last.server
        self.source = last.source
        self.tls = last.tls
        self.status = last.status if self.permanent else "4" + last.status[1:]
        if self.permanent and (last.reply is None or last.reply.enhanced is None):
            self.status = "5.3.2"  # system not accepting network messages
        if all(failure.ours for failure in failures):
            super().__init__(str(last))
        else:
            super().__init__("no mail server answered: " + "; ".join(dict.fromkeys(map(_told, failures))))


def _told(failure: ServerFailed) -> str:
    return f"{failure.server}: {failure}" if failure.server is not None else str(failure)


class _Security(Enum):
    """One way to speak to a server; a connection is opened with each in turn, until TLS does not fail."""

    PLAIN = auto()
    ANY = auto()  # STARTTLS, any certificate
    VERIFIED = auto()  # STARTTLS, a trusted certificate
    IMPLICIT = auto()


class Connector:
    """Opens connections. `hostname` is the name in EHLO where the source has none of its own."""

    def __init__(
        self,
        *,
        pool: Pool,
        tls: TlsClient,
        hostname: str,
        sources: EgressSources,
        timeouts: Timeouts,
        most_messages: int,
        now: Callable[[], Micros],
    ) -> None:
        self._pool = pool
        self._tls = tls
        self._hostname = hostname
        self._sources = sources
        self._timeouts = timeouts
        self._most_messages = most_messages
        self._now = now

    async def connect(
        self, way: NextHops, egress: Egress, *, wish: Wish, family: int | None = None
    ) -> OutboundConnection | None:
        """Return a connection from a source that is ready for messages. Raises `NobodyAnswers`.

        `family` (4, 6): among equal servers those of this family come first. None when there is no slot for it, and it
        is not to wait for one (`Pool.slot`).
        """
        failures: list[ServerFailed] = []
        for server in _in_order(way.servers, family)[:_MOST_SERVERS]:
            try:
                return await self._reach(server, way, egress, wish=wish)
            except ServerFailed as failure:
                failures.append(failure)
            except Exception:  # a fault of ours costs this server, not the destination for ever
                log.exception("a connection failed by a fault of ours", extra={"fields": {"server": str(server)}})
                failures.append(ServerFailed("something went wrong on our side", "4.3.0", ours=True))
            failures[-1].server = server
        raise NobodyAnswers(failures, all_asked=way.whole and len(way.servers) <= _MOST_SERVERS)

    async def _reach(self, server: Server, way: NextHops, egress: Egress, *, wish: Wish) -> OutboundConnection | None:
        if way.tls is TlsPolicy.OPPORTUNISTIC and way.username is None:
            return await self._reach_opportunistically(server, way, egress, wish=wish)
        modes = self._modes(way)
        while True:
            try:
                return await self._open(server, way, egress, modes.pop(0), wish=wish)
            except TlsFailed:
                if not modes:
                    raise

    async def _reach_opportunistically(
        self, server: Server, way: NextHops, egress: Egress, *, wish: Wish
    ) -> OutboundConnection | None:
        """Try TLS up to twice, and plain text where the server's TLS is known to be broken (RFC 7435)."""
        broken = self._tls.broken
        for tries_left in range(_TLS_TRIES - 1, -1, -1):
            if server in broken:
                break
            began = broken.clock()
            try:
                connection = await self._open(server, way, egress, _Security.ANY, wish=wish)
            except TlsFailed as failure:
                broken.failed(server, began=began, lasting=failure.lasting)
                if server in broken:
                    fields = {"server": str(server), "problem": str(failure)}
                    log.warning("TLS is broken at a server, which gets mail in plain text", extra={"fields": fields})
                elif not tries_left:
                    raise
            else:
                if connection is not None and connection.tls is not None:
                    broken.forget(server)
                return connection
        return await self._open(server, way, egress, _Security.PLAIN, wish=wish)

    @staticmethod
    def _modes(way: NextHops) -> list[_Security]:
        match way.tls:
            case TlsPolicy.NONE:
                return [_Security.PLAIN]
            case TlsPolicy.REQUIRED:
                return [_Security.VERIFIED]
            case TlsPolicy.IMPLICIT:
                return [_Security.IMPLICIT]
        # A login never goes without TLS; with a certificate of the server's own making, only by SCRAM.
        return [_Security.VERIFIED, _Security.ANY]

    async def _open(
        self, server: Server, way: NextHops, egress: Egress, security: _Security, *, wish: Wish
    ) -> OutboundConnection | None:
        source = egress.to(server.address)
        if source is None and egress.source is not None:
            raise ServerFailed(f"no source (outbound.source) has an IPv{server.address.version} address", "4.3.5")
        claim = await self._pool.slot(wish, server)
        if claim is None:
            return None
        try:
            connection = await self._socket(server, way, source, implicit=security is _Security.IMPLICIT)
        except BaseException:
            self._pool.give_back(claim)
            raise
        self._pool.opened(connection, claim)
        try:
            await self._introduce(connection, server, way, security)
        except ServerFailed as failure:
            failure.source, failure.tls = connection.source, connection.tls
            connection.leave()
            raise
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _socket(
        self, server: Server, way: NextHops, source: EgressSource | None, *, implicit: bool
    ) -> OutboundConnection:
        """Connect, within the time for it. Raises `ServerFailed`."""
        name = self._hostname if source is None or source.ehlo is None else source.ehlo
        engine = SmtpClient(ClientOptions(name, lmtp=way.lmtp), now=self._now)
        address = None if source is None else source.address
        timeouts = self._timeouts
        try:
            async with asyncio.timeout(timeouts.connect + (timeouts.handshake if implicit else 0)):
                _, wire = await asyncio.get_running_loop().create_connection(
                    lambda: Wire(engine, timeouts),
                    str(server.address),
                    server.port,
                    local_addr=(str(address), 0) if address is not None else None,
                    ssl=self._tls.verified if implicit else None,
                    server_hostname=_certificate_name(server) if implicit else None,
                    ssl_handshake_timeout=timeouts.handshake if implicit else None,
                    ssl_shutdown_timeout=timeouts.farewell if implicit else None,
                )
        except (ssl.SSLError, ValueError) as error:
            raise TlsFailed(tls_words(error), "4.7.5", lasting=lasts(error)) from error
        except OSError as error:
            if implicit and error.errno is None and not isinstance(error, TimeoutError):  # it stood, and TLS did not
                raise TlsFailed(tls_words(error), "4.7.5", lasting=False) from error
            if error.errno in _NO_ROOM:
                words = f"this host has no room for another connection: {os.strerror(error.errno).lower()}"
                raise ServerFailed(words, "4.3.0", ours=True) from error
            if error.errno == errno.EADDRNOTAVAIL and source is not None:
                self._sources.unusable(source)
                words = f"{address} (outbound.source) is no address of this machine"
                raise ServerFailed(words, "4.4.1", ours=True) from error
            raise ServerFailed(_words(error), "4.4.1") from error
        return OutboundConnection(engine, wire, server, most=self._most_messages, source=address)

    async def _introduce(
        self, connection: OutboundConnection, server: Server, way: NextHops, security: _Security
    ) -> None:
        """Greeting, EHLO, TLS, login. Raises `ServerFailed`."""
        if security is _Security.IMPLICIT:
            connection.secured(verified=True)
        await connection.greeting()
        await connection.hello()
        if security in (_Security.ANY, _Security.VERIFIED):
            demanded = security is _Security.VERIFIED or way.username is not None
            await self._start_tls(connection, server, demanded=demanded, verified=security is _Security.VERIFIED)
        if way.username is not None:
            await self._log_in(connection, way.username, way.password or "")

    async def _start_tls(
        self, connection: OutboundConnection, server: Server, *, demanded: bool, verified: bool
    ) -> None:
        refusal: Reply | None = None
        offered = connection.capabilities.starttls
        if offered:
            context = self._tls.verified if verified else self._tls.unverified
            name = _certificate_name(server) if verified else server.name
            refusal = await connection.start_tls(context, name, verified=verified)
        if not offered or refusal is not None:
            if demanded:
                words = (
                    f"it refuses TLS, which is required: {refusal}"
                    if refusal
                    else "it offers no TLS, which is required"
                )
                raise ServerFailed(words, "4.7.4")
            return
        await connection.hello(after_handshake=True)

    @staticmethod
    async def _log_in(connection: OutboundConnection, username: str, password: str) -> None:
        """Log in; the operator's credentials are at stake, so a refusal is loud, and mail waits."""
        tls = connection.tls
        if tls is None:
            raise ServerFailed("a login goes over TLS only: set route.tls", "4.7.4")
        offered = connection.capabilities.mechanisms
        usable = offered if tls.verified else offered - _PASSWORD_SENT
        mechanism = choose(usable, username, password, tls.info)
        if mechanism is None:
            problem = f"it offers no way to log in that can be used (it offers {' '.join(sorted(offered)) or 'none'})"
            if offered & _PASSWORD_SENT:
                problem += "; the password itself is shown only to a server with a trusted certificate"
            raise ServerFailed(problem, "4.7.4")
        try:
            await connection.log_in(mechanism)
        except ServerFailed as failure:
            fields = {"server": str(connection.server), "user": username, "problem": str(failure)}
            log.error("the login at a smart host failed", extra={"fields": fields})
            # The server's words alone don't say that it is the operator's login which they are about.
            words = f"this host's login at {connection.server} as {username} (route.username) failed: {failure}"
            raise ServerFailed(words, failure.status, ours=True) from failure


def _certificate_name(server: Server) -> str:
    return server.name if server.name is not None else str(server.address)


def _in_order(servers: Sequence[Server], family: int | None) -> Sequence[Server]:
    if family is None:
        return servers
    first = {server.rank: number for number, server in reversed(list(enumerate(servers)))}
    return sorted(servers, key=lambda server: (first[server.rank], server.address.version != family))


def _words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return f"no connection: {os.strerror(error.errno).lower() if error.errno else error}"
