"""An acceptor: one listening socket in one worker, from `accept` to the moment at which the session takes over.

In between come the worker's limits, the PROXY header where a load balancer owes one, the limits of the client's
network, and the TLS handshake of an implicit TLS port. Whoever fails on the way gives its place back.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from waypost.config.listener_protocols import ListenerProtocol
from waypost.config.settings import Listener
from waypost.protocol.network import client_address
from waypost.protocol.reply import Reply
from waypost.protocol.session import Peer, Session
from waypost.service.sockets.admission import ConnectionAdmission, ConnectionPlace, ConnectionRefused
from waypost.service.sockets.connection import Connection
from waypost.service.sockets.connections import Connections
from waypost.service.sockets.outbox import Outbox
from waypost.service.sockets.proxy import Ends, ProxyError, ProxyHeader
from waypost.service.sockets.timing import Timing
from waypost.service.sockets.tls import ServerTls, handshake_problem

log = logging.getLogger(__name__)

_AT_ONCE = 64  # connections taken in one turn of the loop
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 1.0  # seconds without accepting when the machine has no room
_QUIET = 1.0  # seconds between two lines about refusals


@dataclass(frozen=True, slots=True)
class ListeningContext:
    """What all listeners of a worker share."""

    admission: ConnectionAdmission
    connections: Connections
    timing: Timing
    outbox: Outbox
    tls: ServerTls | None


def refusal(protocol: ListenerProtocol, reply: Reply) -> bytes:
    """Return what a client hears instead of a greeting; nothing where TLS comes first."""
    if protocol.implicit_tls:
        return b""
    return f"{protocol.refusal.format(reply=reply, text=reply.text)}\r\n".encode("ascii", "backslashreplace")


class Acceptor:
    """Accepts connections on a listening socket (non-blocking; it stays the caller's) for the sessions of `make`."""

    def __init__(
        self, listener: Listener, listening: socket.socket, shared: ListeningContext, make: Callable[[], Session]
    ) -> None:
        self._listener = listener
        self._listening = listening
        self._shared = shared
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._open = False
        self._refused = 0
        self._told_at = float("-inf")

    def open(self) -> None:
        """Accept from now on."""
        self._open = True
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more; what arrives waits in the socket for others, or for nobody."""
        self._open = False
        self._loop.remove_reader(self._listening)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, name = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause(error)
                    return
                continue  # the client has gone meanwhile (accept(2))
            self._receive(sock, str(name[0]), int(name[1]))

    def _pause(self, error: OSError) -> None:
        log.error("no room for connections", extra={"fields": self._about(error=str(error))})
        self.close()
        self._loop.call_later(_PAUSE, self._go_on)
        self._open = True

    def _go_on(self) -> None:
        if self._open:
            self.open()

    def _receive(self, sock: socket.socket, address: str, port: int) -> None:
        # hot: bench/accept
        sock.setblocking(False)
        try:
            place = self._shared.admission.enter()
        except ConnectionRefused as refused:
            self._refuse(sock, refused.reply, address)
            return
        self._shared.connections.arriving(self._loop.create_task(self._arrive(sock, place, address, port)))

    async def _arrive(self, sock: socket.socket, place: ConnectionPlace, address: str, port: int) -> None:
        peer = Peer(address, port, *sock.getsockname()[:2])
        try:
            if self._listener.proxy_protocol:
                peer = await self._behind_balancer(sock, peer)
            place.identify(peer.address)
            await self._hand_over(sock, place, peer)
        except ConnectionRefused as refused:
            place.leave()
            self._refuse(sock, refused.reply, peer.address)
        except (OSError, ProxyError, TimeoutError) as error:
            place.leave()
            sock.close()
            reason = handshake_problem(error) if isinstance(error, OSError) else str(error)
            log.info("connection failed", extra={"fields": self._about(peer=peer.address, reason=reason)})
        except BaseException:
            place.leave()
            sock.close()
            raise

    async def _hand_over(self, sock: socket.socket, place: ConnectionPlace, peer: Peer) -> None:
        shared = self._shared
        tls = shared.tls
        if tls is not None and self._listener.protocol.from_servers:
            tls = tls.between_servers
        context: ssl.SSLContext | None = None
        if self._listener.protocol.implicit_tls:
            if tls is None:
                raise ssl.SSLError("there is no certificate")
            context = tls.context
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection = Connection(
            self._make,
            peer,
            tls=tls,
            timing=shared.timing,
            outbox=shared.outbox,
            ended=partial(self._ended, place),
            protocol=self._listener.protocol.value,
        )
        await self._loop.connect_accepted_socket(
            lambda: connection,
            sock,
            ssl=context,
            ssl_handshake_timeout=shared.timing.handshake if context else None,
            ssl_shutdown_timeout=shared.timing.closing if context else None,
        )
        if connection.working:
            shared.connections.add(connection)

    def _ended(self, place: ConnectionPlace, connection: Connection) -> None:
        place.leave()
        self._shared.connections.discard(connection)

    async def _behind_balancer(self, sock: socket.socket, peer: Peer) -> Peer:
        """Return the real client when the peer is a load balancer that we believe. Raises `ProxyError`."""
        balancer = client_address(peer.address)
        if not any(balancer in network for network in self._listener.proxy_protocol):
            return peer
        header = ProxyHeader()
        async with asyncio.timeout(self._shared.timing.handshake):
            while not header.done:
                await self._readable(sock)
                seen = sock.recv(4096, socket.MSG_PEEK)
                if not seen:
                    raise ProxyError("the connection ended before its PROXY header")
                # Taken away only as far as it is the header: what follows may be a handshake, which TLS must see.
                sock.recv(header.feed(seen))
        return _real(peer, header.ends)

    async def _readable(self, sock: socket.socket) -> None:
        ready = asyncio.Event()
        self._loop.add_reader(sock, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(sock)

    def _refuse(self, sock: socket.socket, reply: Reply, address: str) -> None:
        try:
            sock.send(refusal(self._listener.protocol, reply))
        except OSError as error:
            log.debug("refusal not sent", extra={"fields": self._about(peer=address, error=str(error))})
        finally:
            sock.close()
        self._refused += 1
        now = self._loop.time()
        if now - self._told_at >= _QUIET:  # a flood of connections is no flood of lines
            fields = self._about(peer=address, reply=str(reply), count=self._refused)
            log.warning("connections refused", extra={"fields": fields})
            self._refused, self._told_at = 0, now

    def _about(self, **fields: object) -> dict[str, object]:
        return {"listener": self._listener.protocol.value, "port": self._listener.port, **fields}


def _real(peer: Peer, ends: Ends | None) -> Peer:
    if ends is None:
        return peer
    return Peer(str(ends.source), ends.source_port, str(ends.destination), ends.destination_port)
