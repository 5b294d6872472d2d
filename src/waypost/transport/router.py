"""Where mail for a destination goes: a route of the operator, an address literal, or the MX of the domain.

Nothing is remembered here: the resolver has the cache. What DNS says about strangers is held to the terms of
`mx.py`; a route is the operator's own word, so it may lead into a private network.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from waypost.config.settings import Outbound, Route
from waypost.dns import DnsError, DnsTemporary, IpAddress, Mx, NoSuchDomain, QueryBudget, Resolver
from waypost.message.address import AddressError, domain_key, literal_address
from waypost.transport import mx
from waypost.transport.next_hops import NextHops, NoNextHop, Server
from waypost.transport.public import plain
from waypost.transport.receiver import receiver_of, receiver_of_route

_ANY = "*"
_FAMILIES = frozenset({4, 6})
# What the way to one domain may ask of DNS: its MX, and two kinds of address of twenty hosts, with some aliases.
_QUESTIONS = 60
_AT_ONCE = 2
_SECONDS = 60.0


class Router:
    """Finds the way to a destination.

    `own_addresses` are those on which this host takes mail: an MX that leads to one of them is a loop.
    `passwords` holds the content of every `route.password_file`.
    """

    def __init__(
        self,
        *,
        routes: Sequence[Route],
        outbound: Outbound,
        resolver: Resolver,
        hostname: str,
        own_addresses: Collection[IpAddress],
        passwords: Mapping[Path, str],
        shuffle: mx.Shuffle = random.shuffle,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes: dict[str, Route] = {}
        for route in routes:
            for pattern in route.domains:
                self._routes.setdefault(_pattern_key(pattern), route)
        own = frozenset(plain(address) for address in own_addresses)
        self._terms = mx.MxPolicy(hostname, own, outbound.port, outbound.allow_private_addresses)
        self._families = frozenset(source.address.version for source in outbound.egress) or _FAMILIES
        self._resolver = resolver
        self._passwords = passwords
        self._shuffle = shuffle
        self._clock = clock

    async def way(self, destination: str) -> NextHops:
        """Return the way to a destination key of the queue (a domain or an address literal). Raises `NoNextHop`."""
        try:
            domain = domain_key(destination)
            literal = literal_address(domain) if domain.startswith("[") else None
        except AddressError as error:
            raise NoNextHop(str(error), status="5.1.2", permanent=True) from None
        route = self._route(domain)
        if route is not None:
            return await self._along(route)
        if literal is not None:
            return self._reached(NextHops((mx.literal_server(literal, self._terms),), receiver=receiver_of(domain, ())))
        return await self._by_mx(domain)

    def _reached(self, way: NextHops) -> NextHops:
        """Return those of the servers that one of our sources can reach. Raises `NoNextHop` where none can."""
        if self._families >= way.families:
            return way
        reached = tuple(server for server in way.servers if server.address.version in self._families)
        if not reached:
            [missing] = way.families
            words = f"no source (outbound.source) has an IPv{missing} address, and no server has another"
            raise NoNextHop(words, status="4.3.5", permanent=False)
        return replace(way, servers=reached, whole=False)

    def _route(self, domain: str) -> Route | None:
        """The exact domain, else the longest `.suffix`, else "*"."""
        if domain in self._routes:
            return self._routes[domain]
        if not domain.startswith("["):
            labels = domain.split(".")
            for first in range(1, len(labels)):
                route = self._routes.get("." + ".".join(labels[first:]))
                if route is not None:
                    return route
        return self._routes.get(_ANY)

    # -- the operator's routes ----------------------------------------------------------------------------

    async def _along(self, route: Route) -> NextHops:
        servers, whole = await self._route_servers(route)
        password = None
        if route.username is not None:
            password = self._passwords.get(route.password_file) if route.password_file else None
            if password is None:
                raise _misrouted(route, "it has a username but no password")
        receiver = receiver_of_route(route.host)
        return self._reached(NextHops(servers, route.lmtp, route.tls, route.username, password, whole, True, receiver))

    async def _route_servers(self, route: Route) -> tuple[tuple[Server, ...], bool]:
        """Return the servers of a route, and whether DNS has named them all."""
        if route.host.startswith("["):
            return (Server(None, _bracketed(route), route.port),), True
        try:
            found = await self._resolver.addresses(route.host)
        except DnsTemporary as error:
            raise mx.dns_trouble(error) from None
        except NoSuchDomain:
            raise _misrouted(route, "the host does not exist") from None
        if not found.records:
            raise _misrouted(route, "the host has no address")
        addresses = mx.interleaved(found.records, self._shuffle)
        return tuple(Server(route.host, address, route.port) for address in addresses), found.complete

    # -- the rest of the world ----------------------------------------------------------------------------

    async def _by_mx(self, domain: str) -> NextHops:
        budget = QueryBudget(questions=_QUESTIONS, at_once=_AT_ONCE, seconds=_SECONDS, clock=self._clock)
        try:
            found = await self._resolver.mx(domain, budget)
        except DnsTemporary as error:
            raise mx.dns_trouble(error) from None
        except NoSuchDomain:
            return await self._by_address(domain, budget)
        if not found.records:
            return await self._by_address(domain, budget, exists=True)
        hosts = mx.usable(domain, found.records, self._shuffle)
        asked = (self._exchanger(record, budget) for record in hosts)
        complete = found.complete and len({record.host for record in found.records}) <= mx.MOST_HOSTS
        return self._over(domain, await asyncio.gather(*asked), complete=complete)

    async def _by_address(self, domain: str, budget: QueryBudget, *, exists: bool = False) -> NextHops:
        """The way to a domain without MX: the domain itself (RFC 5321 section 5.1).

        Servers that deny a name when they only lack the type asked for (RFC 4074 section 4.2) do so for MX, too: that
        the domain does not exist is believed when all questions say so.
        """
        [implicit] = mx.usable(domain, (), self._shuffle)
        found = await self._addresses(implicit, budget)
        if not exists and isinstance(found.addresses, NoSuchDomain):
            raise mx.no_such_domain(domain)
        return self._over(domain, [found], complete=True)

    def _over(self, domain: str, exchangers: Sequence[mx.Exchanger], *, complete: bool) -> NextHops:
        servers = mx.servers(domain, exchangers, self._terms, self._shuffle, complete=complete)
        receiver = receiver_of(domain, [(exchanger.preference, exchanger.host) for exchanger in exchangers])
        whole = complete and all(exchanger.whole for exchanger in exchangers)
        return self._reached(NextHops(servers, whole=whole, receiver=receiver))

    async def _exchanger(self, record: Mx, budget: QueryBudget) -> mx.Exchanger:
        address = mx.literal_host(record.host)
        return await self._addresses(record, budget) if address is None else mx.literal_exchanger(record, address)

    async def _addresses(self, record: Mx, budget: QueryBudget) -> mx.Exchanger:
        try:
            return mx.exchanger(record, await self._resolver.addresses(record.host, budget))
        except DnsError as error:
            return mx.exchanger(record, error)


def _pattern_key(pattern: str) -> str:
    if pattern == _ANY:
        return pattern
    return "." + domain_key(pattern[1:]) if pattern.startswith(".") else domain_key(pattern)


def _bracketed(route: Route) -> IpAddress:
    """The address of `[192.0.2.1]`, `[IPv6:2001:db8::1]` or, as people write it, `[2001:db8::1]`."""
    text = route.host[1:-1]
    try:
        return ip_address(text[5:] if text[:5].lower() == "ipv6:" else text)
    except ValueError:
        raise _misrouted(route, "the address can't be read") from None


def _misrouted(route: Route, why: str) -> NoNextHop:
    """The operator's mistake is temporary: mail waits until the setting is right, and is not returned."""
    return NoNextHop(f"the route to {route.host}: {why}", status="4.3.5", permanent=False)
