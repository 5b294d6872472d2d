"""The stub resolver: asks recursive name servers, remembers answers, and asks each question once at a time.

It puts together `exchange.py` (the wire), `answers.py` (what an answer says) and `cache.py`. A server that is
silent loses its place at the front; failures are remembered for some seconds (RFC 9520 section 3.2).
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import dns.exception
import dns.name
import dns.rdatatype

from waypost.dns.answers import AAAA, MAX_ALIASES, MAX_TTL, MX, TXT, A, BadAnswer, Kind, Step, read_answer, text_of
from waypost.dns.cache import Cache
from waypost.dns.exchange import NameServer, NoReply, exchange
from waypost.dns.resolver import Answer, DnsTemporary, IpAddress, Mx, NoSuchDomain, Resolver

T = TypeVar("T")

FAILURE_TTL = 5
"""Seconds for which a failure is remembered (RFC 9520 section 3.2)."""
CAPACITY = 32 * 1024 * 1024
"""What the cache may hold, in octets, roughly."""
ENTRY_OVERHEAD = 1024
"""Octets that an entry of the cache takes beside its records, roughly."""
MOST_IN_FLIGHT = 200
"""Questions on the wire at once; each takes a socket."""

_ROUNDS = 2  # a server that stays silent is asked once more
_PATIENCE = 4  # all servers together get so many times what one gets


@dataclass(frozen=True, slots=True)
class _Failure:
    """No server had an answer; `words` are those of the last one."""

    words: str


_Key = tuple[dns.name.Name, dns.rdatatype.RdataType]
_Outcome = Step[Any] | _Failure


class StubResolver(Resolver):
    """Asks `servers` (address and port), the first that answers at the front.

    `timeout` is the seconds that one server may take for one question; `clock` gives seconds that never go back;
    `new_id` gives 16 random bits. Use it inside one event loop, and `close` it.
    """

    def __init__(
        self,
        servers: Sequence[tuple[IpAddress, int]],
        *,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], int] = lambda: secrets.randbits(16),
    ) -> None:
        if not servers:
            raise ValueError("there is no name server to ask")
        self._servers = deque(NameServer(address, port) for address, port in servers)
        self._timeout = timeout
        self._new_id = new_id
        self._cache: Cache[_Key, _Outcome] = Cache(CAPACITY, clock)
        self._flights: dict[_Key, asyncio.Task[_Outcome]] = {}
        self._slots = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._closed = False

    async def mx(self, domain: str) -> Answer[Mx]:
        """See `Resolver.mx`."""
        return await self._resolve(domain, MX)

    async def txt(self, name: str) -> Answer[bytes]:
        """See `Resolver.txt`."""
        return await self._resolve(name, TXT)

    async def addresses(self, host: str) -> Answer[IpAddress]:
        """See `Resolver.addresses`: AAAA and A are asked at the same time."""
        results = await asyncio.gather(self._resolve(host, AAAA), self._resolve(host, A), return_exceptions=True)
        answers = []
        for result in results:
            if isinstance(result, Answer):
                answers.append(result)
            elif not isinstance(result, NoSuchDomain | DnsTemporary):
                raise result
        records = tuple(record for answer in answers for record in answer.records)
        if not records:
            # A name that does not exist has no records of any kind (RFC 8020), whatever became of the other question.
            for kind in (NoSuchDomain, DnsTemporary):
                for result in results:
                    if isinstance(result, kind):
                        raise result
        return Answer(
            answers[-1].name,
            records,
            all(answer.authenticated for answer in answers),
            min(answer.ttl for answer in answers),
        )

    async def close(self) -> None:
        """Give up the questions on the wire; whoever waits for them gets `DnsTemporary`, as does who asks later."""
        self._closed = True
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights)
        self._cache.clear()

    # -- one question, through all its CNAMEs -------------------------------------------------------------

    async def _resolve(self, asked: str, kind: Kind[T]) -> Answer[T]:
        name = _parse(asked)
        seen, aliases, authenticated, ttl = {name}, 0, True, MAX_TTL
        while True:
            step = await self._step(name, kind)
            if isinstance(step, _Failure):
                raise DnsTemporary(f"{kind} of {asked}: {step.words}")
            authenticated &= step.authenticated
            ttl = min(ttl, step.ttl)
            aliases += step.aliases
            if not step.exists:
                raise NoSuchDomain(f"{kind} of {asked}: the name {text_of(step.name)} does not exist")
            if step.whole:
                return Answer(text_of(step.name), step.records, authenticated, ttl)
            name = step.name
            if name in seen or aliases > MAX_ALIASES:
                raise DnsTemporary(f"{kind} of {asked}: its CNAMEs go round in a circle, or are too many")
            seen.add(name)

    async def _step(self, name: dns.name.Name, kind: Kind[T]) -> Step[T] | _Failure:
        if self._closed:
            return _Failure("the resolver is closed")
        key = name, kind.rdtype
        known = self._cache.get(key)
        if known is not None:
            outcome, left = known
            return outcome if isinstance(outcome, _Failure) else replace(outcome, ttl=int(left))
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key, kind))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key))
        # Shielded: whoever gives up waiting must not take the answer from the others.
        return await asyncio.shield(flight)

    # -- the servers --------------------------------------------------------------------------------------

    async def _fly(self, key: _Key, kind: Kind[Any]) -> _Outcome:
        try:
            async with self._slots:
                return await self._fetch(key, kind)
        except asyncio.CancelledError:  # only `close` and the end of the loop do that
            return _Failure("the resolver is closed")

    async def _fetch(self, key: _Key, kind: Kind[Any]) -> _Outcome:
        limit = self._timeout * _PATIENCE
        try:
            async with asyncio.timeout(limit):
                outcome, size = await self._ask_servers(key[0], kind)
        except TimeoutError:
            outcome, size = _Failure(f"no answer within {limit:g} s"), 0
        seconds = FAILURE_TTL if isinstance(outcome, _Failure) else outcome.ttl
        self._cache.put(key, outcome, seconds, ENTRY_OVERHEAD + size)
        return outcome

    async def _ask_servers(self, name: dns.name.Name, kind: Kind[Any]) -> tuple[_Outcome, int]:
        """Return the first answer of use and its size in octets, or the failure."""
        waiting = list(self._servers)
        words = ""
        for _ in range(_ROUNDS):
            for server in tuple(waiting):
                try:
                    message = await exchange(name, kind.rdtype, server, patience=self._timeout, new_id=self._new_id)
                    return read_answer(message, name, kind), len(message.wire or b"")
                except NoReply as error:
                    self._demote(server)
                    words = f"{server}: {error}"
                except BadAnswer as error:
                    waiting.remove(server)  # it would only say so again (RFC 9520 section 3.1)
                    words = f"{server}: {error}"
        return _Failure(words), 0

    def _demote(self, server: NameServer) -> None:
        if self._servers[0] == server:  # else another question moved it already
            self._servers.rotate(-1)


def _parse(text: str) -> dns.name.Name:
    try:
        name = dns.name.from_text(text.encode("ascii"))
    except (dns.exception.DNSException, UnicodeError):
        name = dns.name.root
    if name == dns.name.root:  # the root has no mail, no hosts, and no other name for it may slip through
        raise NoSuchDomain(f"{text!r} can't be a name in DNS")
    return name
