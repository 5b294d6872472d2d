"""What a connection needs of a session: it takes bytes, decides, and gives bytes, and never sees a socket.

`service/sockets/connection.py` owns the socket, the TLS handshake and the timers, for every protocol alike. A session
joins a sans-IO engine with policy and storage, so its tests need neither sockets nor sleeps.
"""

import math
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Protocol

import msgspec


class TlsInfo(msgspec.Struct, frozen=True):
    """A finished handshake: for trace headers, logs and channel binding (RFC 5929, RFC 9266)."""

    version: str  # "TLSv1.3"
    cipher: str
    server_end_point: bytes | None = None  # tls-server-end-point of our certificate
    exporter: bytes | None = None  # tls-exporter, where the TLS library gives it


class Peer(msgspec.Struct, frozen=True):
    """The client at the other end, and our address that it reached; after a PROXY header, the real client."""

    address: str
    port: int
    local_address: str
    local_port: int
    tls: TlsInfo | None = None


EVENTS_A_TURN = 32
"""How many events of any kind a session handles before it lets other sessions run (`Session.drain`)."""

JUNK_PAUSE = 1.0
"""Seconds that a client waits for each answer after too many commands that led to nothing."""


class Next(Enum):
    """What a session needs now."""

    READ = auto()  # more input
    START_TLS = auto()  # write the output, drop buffered input, shake hands, then call `tls_started`
    CLOSE = auto()  # write the output, then close


class Ending(Enum):
    """Why a session is ended from our side."""

    TIMED_OUT = auto()  # its peer was silent for too long
    STOPPING = auto()  # the service stops
    ACCOUNT_CHANGED = auto()  # its account was disabled or removed, or has another password now
    BY_OPERATOR = auto()  # `waypost session end`


class LoggedIn(Protocol):
    """The account in whose name a session acts, as it was at the login. `version` grows when it is closed, and with
    each new password."""

    @property
    def id(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def version(self) -> int: ...


class Session(Protocol):
    """One client's session over one connection. Calls never overlap; `closed` comes last, exactly once."""

    drain: Callable[[], Awaitable[None]] | None = None
    """Set by the connection before `start`. A session awaits it inside `start` or `advance` when much output waits, and
    after each `EVENTS_A_TURN` events: it writes `take_output()`, lets other sessions work, and returns once the
    transport's buffer is low again. So output stays bounded, and no session keeps the event loop to itself.
    It raises `ConnectionError` when the connection is gone; the session lets the error leave `advance`."""

    pause: Callable[[float], Awaitable[None]] | None = None
    """Set by the connection before `start`. It waits the given seconds before a client that wastes our time is
    answered, and returns early when the session is to end."""

    wake: Callable[[], None] | None = None
    """Set by the connection before `start`. A session calls it, at any time and in any state, when something outside
    has changed for it (`storage.bus.Watchers`). The connection then calls `advance` soon, though the peer is silent."""

    async def start(self, peer: Peer) -> Next:
        """The connection is open (and TLS done, on an implicit TLS port): greet."""
        ...

    def receive(self, data: bytes) -> None:
        """Take input; it is handled by the next `advance`. Called only while `wants_input`."""
        ...

    def receive_eof(self) -> None:
        """The peer will send no more."""
        ...

    @property
    def wants_input(self) -> bool:
        """False while enough input is buffered: the connection stops reading."""
        ...

    async def advance(self) -> Next:
        """Handle the received input until more is needed. The session itself answers when our side fails."""
        ...

    def take_output(self) -> bytes:
        """Return and forget the bytes to write; called after `start` and `advance`, and by a timer."""
        ...

    def tls_started(self, tls: TlsInfo) -> None:
        """The handshake that `START_TLS` asked for is done."""
        ...

    @property
    def busy(self) -> bool:
        """True inside a transaction that a graceful stop should let finish."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds that the peer may stay silent in the present state."""
        ...

    @property
    def lasts(self) -> float:
        """The age in seconds at which a session in the present state ends, even if its peer keeps sending."""
        return math.inf

    @property
    def account(self) -> LoggedIn | None:
        """The account in whose name the session acts; None without a login. Once it is set, the session is told when
        the account ends. So a login sets it first, and then checks that the account is still as it was."""
        return None

    def shut_down(self, why: Ending) -> None:
        """End the session with the protocol's farewell (421, -ERR). Called in any state, also while `advance` waits."""
        ...

    def lost(self) -> None:
        """The connection is gone while the session works; `closed` follows. Stop work for which only the peer waits."""
        return

    def closed(self) -> None:
        """The connection is gone, for whatever reason: release everything that the session holds."""
        ...
