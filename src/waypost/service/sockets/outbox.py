"""What sessions say in one turn of the event loop, written together at its end.  # hot: bench/accept

Each write may wake the peer, on another processor, and where peers are on this machine, they interrupt other workers
for it. Written one right behind the other, the answers to all that came in one turn wake them once.
"""

import asyncio

_LARGE = 16 << 10  # octets, as many as a TLS record has at most: more is a stream, which is no answer to gather


class Outbox:
    """The outbox of one event loop, which is running."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Transport, bytes] = {}
        self._last: asyncio.Transport | None = None

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write at the end of this turn; at once where nobody else has spoken since, or when it is much."""
        if transport is self._last or len(data) > _LARGE or transport in self._waiting:
            self.release(transport)
            transport.write(data)
        else:
            if not self._waiting:
                self._loop.call_soon(self._empty)
            self._waiting[transport] = data
        self._last = transport

    def release(self, transport: asyncio.Transport) -> None:
        """Write the waiting octets of this transport now, before it is closed or changes to TLS."""
        data = self._waiting.pop(transport, None)
        if data is not None and not transport.is_closing():
            transport.write(data)

    def _empty(self) -> None:
        try:
            while self._waiting:
                self.release(next(iter(self._waiting)))
        finally:
            if self._waiting:  # a write failed: its error goes to the loop, and the others have their answers
                self._loop.call_soon(self._empty)
