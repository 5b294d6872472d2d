"""Finds out about a new host from the machine and from DNS: names, addresses, whether they lead to each other.

Observing is separate from deciding: `propose_hostname` and `findings` are functions over values.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waypost.dns import Resolver

IpAddress = IPv4Address | IPv6Address

_PATIENCE = 10.0  # seconds for all questions together
_PER_SERVER = 3.0
# Documentation networks: nothing is sent to them; the kernel only tells which source address it would use.
_FAR = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine's name, as in `hostname -f`, and the addresses it sends from."""

    name: str
    addresses: tuple[IpAddress, ...]


@dataclass(frozen=True, slots=True)
class Looked:
    """The answers of DNS. `forward` are the addresses of the host name, None if the lookup failed. `reverse` has the
    names of each public address, None for an address whose lookup failed."""

    forward: tuple[IpAddress, ...] | None = None
    reverse: Mapping[IpAddress, tuple[str, ...] | None] = field(default_factory=dict)
    trouble: str = ""


def machine() -> Machine:
    """Ask the machine, without sending anything."""
    addresses = [address for place in _FAR if (address := _own_address(*place)) is not None]
    return Machine(socket.getfqdn(), tuple(addresses))


def _own_address(far: str, family: socket.AddressFamily) -> IpAddress | None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            return ip_address(str(probe.getsockname()[0]))
    except OSError:  # no route for this address family
        return None


def look_up(hostname: str, addresses: Sequence[IpAddress]) -> Looked:
    """Ask DNS about a host name and the public addresses of this machine, for ten seconds at most."""
    import asyncio

    from waypost.dns import StubResolver, system_servers

    async def ask() -> Looked:
        resolver = StubResolver(system_servers(), timeout=_PER_SERVER)
        try:
            async with asyncio.timeout(_PATIENCE):
                return await looked(resolver, hostname, addresses)
        except TimeoutError:
            return Looked(trouble=f"DNS gave no answer within {_PATIENCE:.0f} s")
        finally:
            await resolver.close()

    try:
        return asyncio.run(ask())
    except OSError as error:  # /etc/resolv.conf can't be read
        return Looked(trouble=f"{error.filename}: {error.strerror}")


async def looked(resolver: Resolver, hostname: str, addresses: Sequence[IpAddress]) -> Looked:
    """Ask a resolver about a host name (A-labels) and the public ones among `addresses`."""
    from waypost.dns import DnsError, NoSuchDomain
    from waypost.transport.public import is_public

    trouble = ""
    try:
        forward: tuple[IpAddress, ...] | None = (await resolver.addresses(hostname)).records
    except NoSuchDomain:
        forward = ()
    except DnsError as error:
        forward, trouble = None, str(error)
    reverse: dict[IpAddress, tuple[str, ...] | None] = {}
    for address in dict.fromkeys([*addresses, *(forward or ())]):
        if not is_public(address):
            continue
        try:
            reverse[address] = (await resolver.names(address)).records
        except NoSuchDomain:
            reverse[address] = ()
        except DnsError as error:
            reverse[address], trouble = None, str(error)
    return Looked(forward, reverse, trouble)


def propose_hostname(found: Machine) -> str | None:
    """Return the machine's name if it can be a mail host's name; None for `localhost` and similar names."""
    from waypost.config.names import parse_host_name

    try:
        name = parse_host_name(found.name)
    except ValueError:
        return None
    local = name == "localhost" or name.endswith((".localdomain", ".local", ".internal", ".lan", ".home", ".arpa"))
    return None if local or "." not in name else name


def propose_domain(hostname: str) -> str:
    """Return the domain for which a host most likely receives mail: example.org for mx.example.org."""
    parent = hostname.partition(".")[2]
    return parent if "." in parent else hostname


def findings(hostname: str, found: Machine, dns: Looked) -> list[str]:
    """Return in plain words what is right and what is not, one finding a line."""
    from waypost.transport.public import is_public

    lines = []
    if dns.trouble:
        lines.append(f"not everything could be checked: {dns.trouble}")
    private = [address for address in found.addresses if not is_public(address)]
    public = [address for address in found.addresses if is_public(address)]
    if private and not public:
        addresses = ", ".join(map(str, private))
        lines.append(f"this machine has private addresses only ({addresses}): publish the public one that leads to it")
    if dns.forward is not None:
        lines.append(_forward(hostname, dns.forward, public))
    for address, names in dns.reverse.items():
        if names is None:
            continue
        if hostname in (name.lower().rstrip(".") for name in names):
            lines.append(f"reverse: {address} leads back to {hostname}: right")
        else:
            now = f"leads to {', '.join(names)}" if names else "has no name"
            lines.append(f"reverse: {address} {now}: let its owner set the PTR record to {hostname}")
    return lines


def _forward(hostname: str, forward: Sequence[IpAddress], public: Sequence[IpAddress]) -> str:
    addresses = ", ".join(map(str, forward))
    if not forward:
        return f"forward: {hostname} has no address in DNS yet: publish the records below"
    if public and not set(forward) & set(public):
        return f"forward: {hostname} leads to {addresses}, which is not an address of this machine"
    return f"forward: {hostname} leads to {addresses}" + (": right" if set(forward) & set(public) else "")
