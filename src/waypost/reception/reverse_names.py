"""The name of a client's address: looked up, and confirmed if the name leads back to the address (RFC 8601 section 3).

The lookup runs while the content of a client's first message arrives; the result is recorded in Received and in the
journal. The replies of a session wait for it for a fifth of a second in all. For a message that arrives before the
answer, the name is unknown.
"""

import time
from collections.abc import Callable
from functools import lru_cache

from waypost.dns import DnsError, DnsTemporary, NoSuchDomain, QueryBudget, Resolver
from waypost.dns.resolver import IpAddress
from waypost.intake import Client, ReplyDelay, Transaction, Verdict
from waypost.protocol.network import client_address

PATIENCE = 0.2
"""Seconds in all for which the replies of one session wait for its client's name."""

METHOD = "iprev"
MOST_NAMES = 10
"""The most names that are tried for one address, whose owner chooses how many it has (RFC 7208 4.6.4: 10)."""

_SECONDS = 20.0  # for all questions about one client
_AT_ONCE = 4
_LATE = Verdict(METHOD, "temperror", reason="DNS has not answered in time")
_NO_NAME = Verdict(METHOD, "permerror", reason="the address has no name")


class ReverseNames:
    """Looks up clients. `is_public` says which addresses can have a name in public DNS; no others are looked up."""

    def __init__(
        self, resolver: Resolver, *, is_public: Callable[[IpAddress], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._resolver = resolver
        self._clock = clock

        @lru_cache(maxsize=1024)
        def asked_for(address: str) -> IpAddress | None:
            try:
                client = client_address(address)
            except ValueError:  # not an IP socket
                return None
            return client if is_public(client) else None

        self._asked_for = asked_for

    def look_up(self, transaction: Transaction) -> None:
        """Start to look up the name of the transaction's client, unless it is known."""
        client = transaction.client
        address = self._asked_for(client.peer.address)
        if address is None:
            return
        known = client.verdicts.get(METHOD)
        if known is None or known.result == "temperror":
            if client.patience is None:
                client.patience = ReplyDelay(PATIENCE)
            client.verdicts[METHOD] = _LATE
            transaction.run(self._look_up(client, address), client.patience)

    async def _look_up(self, client: Client, address: IpAddress) -> None:
        client.verdicts[METHOD] = await self.verdict(address)

    @staticmethod
    def record(transaction: Transaction) -> None:
        """Record what is known of the client's name now, in a message that has arrived."""
        found = transaction.client.verdicts.get(METHOD)
        if found is not None:
            transaction.record(found)

    async def verdict(self, address: IpAddress) -> Verdict:
        """Return what DNS says of an address, in the results of RFC 8601 section 2.7.3."""
        budget = QueryBudget(questions=1 + 2 * MOST_NAMES, at_once=_AT_ONCE, seconds=_SECONDS, clock=self._clock)
        try:
            names = (await self._resolver.names(address, budget)).records
        except NoSuchDomain:
            return _NO_NAME
        except DnsTemporary as error:
            return Verdict(METHOD, "temperror", reason=str(error))
        trouble: DnsError | None = None
        for name in names[:MOST_NAMES]:
            try:
                found = await self._resolver.addresses(name, budget)
            except DnsTemporary as error:
                trouble = error
            except NoSuchDomain:
                continue
            else:
                if address in found.records:
                    return Verdict(METHOD, "pass", name)
        if not names:
            return _NO_NAME
        if trouble is not None:
            return Verdict(METHOD, "temperror", reason=str(trouble))
        return Verdict(METHOD, "fail", names[0], "the name does not lead back to the address")
