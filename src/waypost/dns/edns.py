"""Remembers the name servers that answer only questions without EDNS (RFC 6891 section 7).

Time is an argument; it has no socket.
"""

from collections.abc import Callable

from waypost.dns.wire import BADVERS, FORMERR, NOTIMP, REFUSED, SERVFAIL, Message

WITHOUT_EDNS = 900
"""Seconds for which a server that answers only without EDNS is not tried with EDNS first."""

_FAILURES = frozenset({FORMERR, SERVFAIL, NOTIMP, REFUSED})
_ENOUGH = 3


def blames_edns(answer: Message) -> bool:
    """True when a failure may be due to the OPT record of the question, which the server does not know.

    Older servers answer it with FORMERR, NOTIMP or SERVFAIL (RFC 2671 section 5.3), some with REFUSED. A server that
    knows EDNS answers with an OPT record (RFC 6891 section 6.1.1); then the failure is about the name, unless the code
    concerns the version or the form of EDNS itself.
    """
    return answer.rcode in ((FORMERR, BADVERS) if answer.edns else _FAILURES)


class EdnsMemory:
    """What is known about each server and EDNS. `server` is any key; the caller bounds the number of servers.

    If nothing is known about a server, one answer without EDNS, after silence with it, is enough to ask it without
    EDNS. A server that once used EDNS must do this three times in a row, because an attacker can make answers slow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._signs: dict[object, int] = {}
        self._until: dict[object, float] = {}

    def useful(self, server: object) -> bool:
        """True when a question should go to the server with EDNS first."""
        return self._until.get(server, 0.0) <= self._clock()

    def heard(self, server: object, answer: Message) -> None:
        """Take note of a usable answer from the server."""
        if answer.edns:
            self._signs[server] = 0
        elif not answer.asked_with_edns and self.useful(server):
            self._signs[server] = self._signs.get(server, _ENOUGH - 1) + 1
            if self._signs[server] >= _ENOUGH:
                self._until[server] = self._clock() + WITHOUT_EDNS
