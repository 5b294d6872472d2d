"""The stub resolver: asks recursive name servers, caches answers, and never asks one question twice at a time.

It uses `exchange.py` (the wire), `answers.py` (the meaning of an answer) and `cache.py`. A server that is silent is no
longer asked first; failures are cached for some seconds (RFC 9520 section 3.2).
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from waypost.dns.answers import (
    AAAA,
    MAX_ALIASES,
    MAX_TTL,
    MX,
    PTR,
    TXT,
    A,
    AnswerStep,
    BadAnswer,
    RecordType,
    read_answer,
)
from waypost.dns.budget import QueryBudget
from waypost.dns.cache import Cache
from waypost.dns.edns import EdnsMemory
from waypost.dns.exchange import NameServer, NoReply, exchange
from waypost.dns.names import ROOT, Name, name_of, text_of
from waypost.dns.resolver import Answer, DnsTemporary, IpAddress, Mx, NoSuchDomain, OverBudget, Resolver
from waypost.dns.wire import Type

T = TypeVar("T")

FAILURE_TTL = 5
"""Seconds for which a failure is cached (RFC 9520 section 3.2)."""
CAPACITY = 32 * 1024 * 1024
"""The approximate size limit of the cache in octets."""
ENTRY_OVERHEAD = 1024
"""The approximate octets that an entry of the cache takes besides its records."""
MOST_IN_FLIGHT = 1000
"""How many questions may be on the wire at once; each takes a socket. It is more than the destinations that one account
can occupy ask at once."""

_PATIENCE = 4  # the time for all servers together, as a multiple of the time for one


@dataclass(frozen=True, slots=True)
class _Failure:
    """No server gave a usable answer; `words` describe the failure of the last one."""

    words: str


_Key = tuple[Name, Type]
_Outcome = AnswerStep[Any] | _Failure


class StubResolver(Resolver):
    """Asks `servers` (address and port), beginning with the one that answered last.

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
        self._edns = EdnsMemory(clock)
        self._cache: Cache[_Key, _Outcome] = Cache(CAPACITY, clock)
        self._flights: dict[_Key, asyncio.Task[_Outcome]] = {}
        self._slots = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._closed = False

    async def mx(self, domain: str, budget: QueryBudget | None = None) -> Answer[Mx]:
        """See `Resolver.mx`."""
        return await self._resolve(domain, MX, budget)

    async def txt(self, name: str, budget: QueryBudget | None = None) -> Answer[bytes]:
        """See `Resolver.txt`."""
        return await self._resolve(name, TXT, budget)

    async def names(self, address: IpAddress, budget: QueryBudget | None = None) -> Answer[str]:
        """See `Resolver.names`."""
        return await self._resolve(address.reverse_pointer, PTR, budget)

    async def addresses(self, host: str, budget: QueryBudget | None = None) -> Answer[IpAddress]:
        """See `Resolver.addresses`: AAAA and A are asked at the same time."""
        kinds: tuple[RecordType[IpAddress], ...] = (AAAA, A)
        asked = (self._resolve(host, kind, budget) for kind in kinds)
        return _both(await asyncio.gather(*asked, return_exceptions=True))

    async def close(self) -> None:
        """Cancel the questions on the wire; callers that wait, and later calls, get `DnsTemporary`."""
        self._closed = True
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights)
        self._cache.clear()

    # -- one question, through all its CNAMEs -------------------------------------------------------------

    async def _resolve(self, asked: str, kind: RecordType[T], budget: QueryBudget | None) -> Answer[T]:
        name = _parse(asked)
        seen, aliases, authenticated, ttl = {name}, 0, True, MAX_TTL
        while True:
            try:
                step = await self._step(name, kind, budget)
            except OverBudget as error:
                raise OverBudget(f"{kind} of {asked}: {error}") from None
            if isinstance(step, _Failure):
                raise DnsTemporary(f"{kind} of {asked}: {step.words}")
            authenticated &= step.authenticated
            ttl = min(ttl, step.ttl)
            aliases += step.aliases
            if not step.exists:
                raise NoSuchDomain(f"{kind} of {asked}: the name {text_of(step.name)} does not exist")
            if step.whole:
                return Answer(text_of(step.name), step.records, authenticated, ttl, step.complete)
            name = step.name
            if name in seen or aliases > MAX_ALIASES:
                raise DnsTemporary(f"{kind} of {asked}: its CNAMEs form a loop, or are too many")
            seen.add(name)

    async def _step(self, name: Name, kind: RecordType[T], budget: QueryBudget | None) -> AnswerStep[T] | _Failure:
        known = self._known((name, kind.type))
        if known is not None:
            return known
        if budget is None:
            return await self._ask(name, kind)
        async with budget:
            known = self._known((name, kind.type))  # another caller may have asked meanwhile
            if known is not None:
                return known
            try:
                async with asyncio.timeout(budget.seconds_left):
                    return await self._ask(name, kind)
            except TimeoutError:
                raise OverBudget("the time for all questions of one piece of work is over") from None

    def _known(self, key: _Key) -> _Outcome | None:
        if self._closed:
            return _Failure("the resolver is closed")
        known = self._cache.get(key)
        if known is None:
            return None
        outcome, left = known
        return outcome if isinstance(outcome, _Failure) else replace(outcome, ttl=int(left))

    async def _ask(self, name: Name, kind: RecordType[T]) -> AnswerStep[T] | _Failure:
        key = name, kind.type
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key, kind))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key))
        # Shielded: a caller that stops waiting must not cancel the question for the others.
        return await asyncio.shield(flight)

    # -- the servers --------------------------------------------------------------------------------------

    async def _fly(self, key: _Key, kind: RecordType[Any]) -> _Outcome:
        try:
            async with self._slots:
                return await self._fetch(key, kind)
        except asyncio.CancelledError:  # only `close` and the end of the loop do that
            return _Failure("the resolver is closed")

    async def _fetch(self, key: _Key, kind: RecordType[Any]) -> _Outcome:
        limit = self._timeout * _PATIENCE
        try:
            async with asyncio.timeout(limit):
                outcome = await self._ask_servers(key[0], kind)
        except TimeoutError:
            outcome = _Failure(f"no answer within {limit:g} s")
        if isinstance(outcome, _Failure):
            self._cache.put(key, outcome, FAILURE_TTL, ENTRY_OVERHEAD)
        else:
            # Weigh by the memory used here: compression can make an answer on the wire a hundred times smaller.
            self._cache.put(key, outcome, outcome.ttl, ENTRY_OVERHEAD + sum(map(kind.weight, outcome.records)))
        return outcome

    async def _ask_servers(self, name: Name, kind: RecordType[Any]) -> _Outcome:
        """Return the first usable answer, or the failure.

        First each server is asked with EDNS. Those that were silent are asked once more without it, because some
        servers drop questions with EDNS.
        """
        waiting = list(self._servers)
        words = ""
        for edns in (True, False):
            # Even if many servers are silent, one gets its full time for the question without EDNS.
            patience = (
                min(self._timeout, self._timeout * (_PATIENCE - 1) / len(self._servers)) if edns else self._timeout
            )
            for server in tuple(waiting):
                try:
                    return await self._ask_server(server, name, kind, edns=edns, patience=patience)
                except NoReply as error:
                    self._demote(server)
                    words = f"{server}: {error}"
                except BadAnswer as error:
                    waiting.remove(server)  # it would only give the same answer again (RFC 9520 section 3.1)
                    words = f"{server}: {error}"
        return _Failure(words)

    async def _ask_server(
        self, server: NameServer, name: Name, kind: RecordType[T], *, edns: bool, patience: float
    ) -> AnswerStep[T]:
        """Return the answer of one server, asked without EDNS if it is known to need that. Raises as `exchange`."""
        edns = edns and self._edns.useful(server)
        message = await exchange(name, kind.type, server, patience=patience, new_id=self._new_id, edns=edns)
        step = read_answer(message, name, kind)
        self._edns.heard(server, message)
        return step

    def _demote(self, server: NameServer) -> None:
        if self._servers[0] == server:  # otherwise another question has moved it already
            self._servers.rotate(-1)


def _both(results: Sequence[Answer[IpAddress] | BaseException]) -> Answer[IpAddress]:
    """Return the addresses of the kinds that were found. Raises `DnsTemporary`, or `NoSuchDomain` when both kinds do.

    NXDOMAIN for one kind says nothing about the other: some servers don't know AAAA and deny the whole name (RFC 4074
    section 4.2), although RFC 8020 forbids that.
    """
    answers, troubles = [], []
    for result in results:
        if isinstance(result, Answer):
            answers.append(result)
        elif isinstance(result, NoSuchDomain | DnsTemporary):
            troubles.append(result)
        else:
            raise result
    records = tuple(record for answer in answers for record in answer.records)
    temporary = next((trouble for trouble in troubles if isinstance(trouble, DnsTemporary)), None)
    if not records and temporary is not None:
        raise temporary
    if not answers:
        raise troubles[-1]
    return Answer(
        answers[-1].name,
        records,
        all(answer.authenticated for answer in answers),
        min(answer.ttl for answer in answers),
        temporary is None and all(answer.complete for answer in answers),
    )


def _parse(text: str) -> Name:
    try:
        name = name_of(text)
    except ValueError:  # includes UnicodeError
        name = ROOT
    if name == ROOT:  # the root has no mail and no hosts; other spellings of it must not pass either
        raise NoSuchDomain(f"{text!r} can't be a name in DNS")
    return name
