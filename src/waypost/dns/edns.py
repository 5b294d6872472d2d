"""Which name servers are asked without EDNS: those that only answer such questions (RFC 6891 section 7).

Time is an argument; it knows no socket.
"""

from collections.abc import Callable

from waypost.dns.wire import BADVERS, FORMERR, NOTIMP, REFUSED, SERVFAIL, Message

WITHOUT_EDNS = 900
"""Seconds for which a server that answers only without EDNS is asked without it from the beginning."""

_FAILURES = frozenset({FORMERR, SERVFAIL, NOTIMP, REFUSED})
_ENOUGH = 3


def blames_edns(answer: Message) -> bool:
    """True when a failure may be due to the OPT record of the question, which the server does not know.

    Older servers answer it with FORMERR, NOTIMP or SERVFAIL (RFC 2671 section 5.3), some with REFUSED. Those that know
    EDNS send an OPT record of their own (RFC 6891 section 6.1.1); then the failure is about the name, unless it is
    about the version or the form of EDNS itself.
    """
    return answer.rcode in ((FORMERR, BADVERS) if answer.edns else _FAILURES)


class EdnsMemory:
    """What each server has shown of EDNS. `server` is anything that can be a key; there are as many as are asked.

    A server of which nothing is known is believed at once when it answers without EDNS what it did not answer with it.
    One that has shown that it knows EDNS must do so three times in a row: a slow answer, which others can cause, is no
    reason to ask it otherwise.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._signs: dict[object, int] = {}
        self._until: dict[object, float] = {}

    def useful(self, server: object) -> bool:
        """True when the server is to be asked with EDNS first."""
        return self._until.get(server, 0.0) <= self._clock()

    def heard(self, server: object, answer: Message) -> None:
        """An answer of use came from the server."""
        if answer.edns:
            self._signs[server] = 0
        elif not answer.asked_with_edns and self.useful(server):
            self._signs[server] = self._signs.get(server, _ENOUGH - 1) + 1
            if self._signs[server] >= _ENOUGH:
                self._until[server] = self._clock() + WITHOUT_EDNS
