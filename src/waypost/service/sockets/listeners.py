"""The listening sockets: bound by the supervisor, which keeps them while workers come and go.

Each listener has one socket, from which all workers accept: a connection goes to one that has time for it, which a
socket for each (the kernel spreads blindly) would not give; and a worker that hangs or dies keeps nobody waiting. Since
the supervisor holds them too, connections that wait in a socket outlive the death of all workers, and a reload.
"""

import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from waypost.config.settings import IpAddress, Listener
from waypost.service.machine.problems import SetupProblem

_BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn
_EVERY = 0.1


class ListenProblem(SetupProblem):
    """Listeners can't be had; there is a problem for each."""


def address_text(address: IpAddress, port: int) -> str:
    """Return an address and port as they stand in the configuration: `[::]:25`."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class Bound:
    """A listener and its socket. `address` is where it really listens, port 0 resolved."""

    listener: Listener
    socket: socket.socket

    @property
    def address(self) -> str:
        """Address and port as text."""
        return address_text(self.listener.address, self.port)

    @property
    def port(self) -> int:
        """The port."""
        return int(self.socket.getsockname()[1])

    def close(self) -> None:
        """Close the socket; workers that have it go on until they close theirs."""
        self.socket.close()


_Key = tuple[IpAddress, int, int]  # the last tells several on port 0 from each other


class Listeners:
    """The sockets of the configuration in force."""

    def __init__(self) -> None:
        self._bound: dict[_Key, Bound] = {}

    @property
    def bound(self) -> tuple[Bound, ...]:
        """What is listened on, in the order of the configuration."""
        return tuple(self._bound.values())

    def bind(self, wanted: Sequence[Listener], *, patience: float = 0.0) -> "Change":
        """Bind what the wanted listeners need and is not there yet; nothing changes until `Change.keep`.

        A port in use is tried again for `patience` seconds: the workers of a service that was killed need a moment to
        let go. Raises `ListenProblem` with all problems; everything is then as before.
        """
        until = time.monotonic() + patience
        after: dict[_Key, Bound] = {}
        fresh: list[Bound] = []
        problems: list[str] = []
        seen: Counter[tuple[IpAddress, int]] = Counter()
        for listener in wanted:
            place = (listener.address, listener.port)
            key = (*place, seen[place])
            seen[place] += 1
            before = self._bound.get(key)
            try:
                if before is None:
                    fresh.append(Bound(listener, _bind(listener, until, alone=not self._has_port_of(listener, fresh))))
                after[key] = fresh[-1] if before is None else Bound(listener, before.socket)
            except OSError as error:
                problems.append(_explain(listener, error))
        if problems:
            for bound in fresh:
                bound.close()
            raise ListenProblem(*problems)
        return Change(self, after, fresh)

    def _has_port_of(self, listener: Listener, fresh: Sequence[Bound]) -> bool:
        """True when a listener of ours stands in the way: one for every address, or for one where all are wanted."""
        return any(
            bound.port == listener.port
            and bound.listener.address.version == listener.address.version
            and (bound.listener.address.is_unspecified or listener.address.is_unspecified)
            for bound in (*self._bound.values(), *fresh)
        )

    def close(self) -> None:
        """Close everything."""
        for bound in self._bound.values():
            bound.close()
        self._bound.clear()

    def _replace(self, after: dict[_Key, Bound]) -> None:
        for key, bound in self._bound.items():
            if key not in after:
                bound.close()
        self._bound = after


class Change:
    """Sockets that are bound, and not in force yet. `bound` is how it would be."""

    def __init__(self, listeners: Listeners, after: dict[_Key, Bound], fresh: list[Bound]) -> None:
        self._listeners = listeners
        self._after = after
        self._fresh = fresh

    @property
    def bound(self) -> tuple[Bound, ...]:
        """The listeners as they would be."""
        return tuple(self._after.values())

    def keep(self) -> None:
        """Put it in force; sockets that are no longer wanted are closed."""
        self._listeners._replace(self._after)

    def drop(self) -> None:
        """Let it be: what was bound for it is closed."""
        for bound in self._fresh:
            bound.close()


def _bind(listener: Listener, until: float, *, alone: bool) -> socket.socket:
    while True:
        try:
            # SO_REUSEPORT lets one address take the place of all, or all that of one, before the old socket is closed.
            if alone and listener.port:
                # It would also share the port with another service of the same user, unnoticed.
                _socket(listener, shared=False).close()
            sock = _socket(listener, shared=True)
            sock.listen(_BACKLOG)
            return sock
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
                raise
            time.sleep(_EVERY)


def _socket(listener: Listener, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if listener.address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(listener.address), listener.port))
    except OSError:
        sock.close()
        raise
    return sock


def _explain(listener: Listener, error: OSError) -> str:
    port = listener.port
    fix = {
        errno.EADDRINUSE: f"the port is in use: stop what listens there (`ss -ltnp 'sport = :{port}'` shows it), "
        "or choose another port",
        errno.EACCES: f"not allowed: port {port} needs root, or the capability CAP_NET_BIND_SERVICE that the systemd "
        "unit gives; or choose a port from 1024 on",
        errno.EADDRNOTAVAIL: "this host has no such address: write one that `ip address` shows, or 0.0.0.0 or [::]",
        errno.EAFNOSUPPORT: "this host has no IPv6: remove the listener",
    }
    words = fix.get(error.errno or 0) or os.strerror(error.errno or 0)
    return f"listener {listener.protocol.value} {address_text(listener.address, port)}: {words}"
