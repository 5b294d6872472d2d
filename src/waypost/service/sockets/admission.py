"""Admission: how many connections a worker holds, and how many and how fast from one client network.

A place is taken when a connection arrives and given back however it ends. The client's network is counted when it is
known, which behind a load balancer is after the PROXY header.
"""

import time
from collections.abc import Callable

from waypost.config.settings import Limits
from waypost.protocol.network import client_address, network_of
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies

_MINUTE = 60.0
_MOST_NETWORKS = 50_000  # kept in memory; those that send nothing are forgotten first


class ConnectionRefused(Exception):
    """A connection gets no place; `reply` says why to the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class _Network:
    """One client network: its open connections, and a bucket of connections that it may still make."""

    __slots__ = ("filled_at", "left", "open")

    def __init__(self, left: float, now: float) -> None:
        self.open = 0
        self.left = left
        self.filled_at = now


class ConnectionAdmission:
    """Counts the connections of one worker. `clock` gives seconds that never step back."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._networks: dict[str, _Network] = {}
        self.open = 0

    def enter(self) -> "ConnectionPlace":
        """Take a place for a connection that has just arrived. Raises `ConnectionRefused`."""
        if self.open >= self._limits.connections:
            raise ConnectionRefused(replies.SERVER_BUSY)
        self.open += 1
        return ConnectionPlace(self)

    def _identify(self, address: str) -> _Network | None:
        client = client_address(address)
        if any(client in exempt for exempt in self._limits.exempt_networks):
            return None
        key = network_of(address)
        now = self._clock()
        rate = self._limits.connection_rate_per_network
        network = self._networks.get(key)
        if network is None:
            self._make_room(now)
            network = self._networks[key] = _Network(rate, now)
        network.left = min(rate, network.left + (now - network.filled_at) * rate / _MINUTE)
        network.filled_at = now
        if network.left < 1 or network.open >= self._limits.connections_per_network:
            raise ConnectionRefused(replies.TOO_MANY_CONNECTIONS)
        network.left -= 1
        network.open += 1
        return network

    def _make_room(self, now: float) -> None:
        """Forget networks of which nothing is open and whose bucket is full again; in need, the oldest half."""
        if len(self._networks) < _MOST_NETWORKS:
            return
        idle = {key: network for key, network in self._networks.items() if not network.open}
        for key, network in idle.items():
            if now - network.filled_at >= _MINUTE:
                del self._networks[key]
        if len(self._networks) >= _MOST_NETWORKS:
            for key in list(idle)[: len(idle) // 2]:
                self._networks.pop(key, None)

    def _leave(self, network: _Network | None) -> None:
        self.open -= 1
        if network is not None:
            network.open -= 1


class ConnectionPlace:
    """One connection's place; `leave` gives it back, and does nothing when called again."""

    __slots__ = ("_admission", "_network", "_taken")

    def __init__(self, admission: ConnectionAdmission) -> None:
        self._admission = admission
        self._network: _Network | None = None
        self._taken = True

    def identify(self, address: str) -> None:
        """Count the connection to its client's network, once.

        Raises `ConnectionRefused`; the place must still be left then.
        """
        self._network = self._admission._identify(address)

    def leave(self) -> None:
        """Give the place back."""
        if self._taken:
            self._taken = False
            self._admission._leave(self._network)
