"""Which servers' TLS is broken, so that opportunistic TLS gives way to plain text (RFC 7435), and for how long.

One broken handshake is an accident: a reset, a server that restarts. TLS is broken where it failed for a reason that
lasts (no common cipher, no TLS behind the 220), or three times in a row. A handshake that succeeds, or a server that
insists on TLS, ends the memory.
"""

import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from waypost.config.settings import IpAddress
from waypost.transport.next_hops import Server

_REPEATED = 3  # failures in a row
_BROKEN_FOR = 3600.0  # seconds
_FORGOTTEN_AFTER = 24 * 3600.0  # seconds
_MOST = 10_000  # servers

# What OpenSSL says of an ending that says nothing about the server's abilities.
_PASSING = frozenset(
    {
        "UNEXPECTED_EOF_WHILE_READING",
        "APPLICATION_DATA_AFTER_CLOSE_NOTIFY",
        "TLSV1_ALERT_INTERNAL_ERROR",
        "TLSV1_ALERT_USER_CANCELLED",
    }
)


@dataclass(slots=True)
class _Trouble:
    failures: int
    last: float
    broken_until: float


class BrokenTls:
    """The memory of one worker. `clock` gives seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._known: OrderedDict[tuple[IpAddress, int], _Trouble] = OrderedDict()

    def failed(self, server: Server, *, began: float, lasting: bool) -> None:
        """TLS failed on a connection that was begun at a time of the clock.

        Connections that were begun before the last failure was known are of the same accident: they don't count again.
        """
        now = self.clock()
        key = (server.address, server.port)
        trouble = self._known.get(key)
        if trouble is None or now - trouble.last >= _FORGOTTEN_AFTER:
            trouble = self._known[key] = _Trouble(0, float("-inf"), float("-inf"))
        if lasting:
            trouble.failures = _REPEATED
        elif began >= trouble.last:
            trouble.failures += 1
        trouble.last = now
        if trouble.failures >= _REPEATED:
            trouble.broken_until = now + _BROKEN_FOR
        self._known.move_to_end(key)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def forget(self, server: Server) -> None:
        """Note that TLS works with this server, or that the server requires TLS."""
        self._known.pop((server.address, server.port), None)

    def __contains__(self, server: Server) -> bool:
        """True while opportunistic TLS should not be tried with a server."""
        trouble = self._known.get((server.address, server.port))
        return trouble is not None and self.clock() < trouble.broken_until


def lasts(error: Exception) -> bool:
    """True for a failure of TLS that another handshake would meet again, false for what may have been an accident."""
    if isinstance(error, ssl.SSLError):
        passing = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
        return not passing and (error.reason or "") not in _PASSING
    return isinstance(error, ValueError)
