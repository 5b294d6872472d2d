"""How long a connection may take, and whether its last words still arrive, by what the kernel says of its peer.

A transport over TLS knows how many octets it has not encrypted yet, but not how many wait below it to be sent, in
asyncio and uvloop alike. The peer's acknowledgements tell that, wherever octets wait.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass

_BYTES_ACKED = struct.Struct("=120xQ")  # tcpi_bytes_acked of struct tcp_info (linux/tcp.h, since Linux 4.1)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: how long a session may last, a handshake may take, and a peer may need to take our last words: `linger`
    without taking any, `closing` in all.
    """

    session: float
    handshake: float = 30.0
    linger: float = 5.0
    closing: float = 300.0


class LastWords:
    """What was written to a connection that is closing. `until` is when it is dropped, by the clock of the loop."""

    def __init__(self, transport: asyncio.Transport, *, encrypted: bool, until: float) -> None:
        self._transport = transport
        self._encrypted = encrypted
        self._until = until
        self._acknowledged = acknowledged_octets(transport)

    def arrive(self, now: float) -> bool:
        """True when the peer has taken something since it was asked last, and more may be under way."""
        before, self._acknowledged = self._acknowledged, acknowledged_octets(self._transport)
        unsent = self._encrypted or self._transport.get_write_buffer_size() > 0
        return unsent and self._acknowledged > before and now < self._until


def acknowledged_octets(transport: asyncio.BaseTransport) -> int:
    """Return how many octets the peer of a TCP connection has acknowledged; 0 when the socket is gone."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    try:
        information: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
    except OSError:
        return 0
    if len(information) < _BYTES_ACKED.size:  # no TCP
        return 0
    return int(_BYTES_ACKED.unpack(information)[0])
