"""The DNS records that a host and its domains need, and their printed form."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

Record = tuple[str, str, str]
"""Name without the last dot, type, value."""


def records(hostname: str, domains: Sequence[str], addresses: Sequence[IPv4Address | IPv6Address]) -> list[Record]:
    """Return the records to publish; `addresses` are the public addresses of the host, if they are known."""
    found: list[Record] = [
        (hostname, "A" if address.version == 4 else "AAAA", str(address)) for address in addresses
    ] or [(hostname, "A", "192.0.2.1")]
    found.append((hostname, "TXT", '"v=spf1 a -all"'))
    for domain in domains:
        if domain != hostname:
            found += [(domain, "MX", f"10 {hostname}."), (domain, "TXT", '"v=spf1 mx -all"')]
    if hostname in domains:
        found.append((hostname, "MX", f"10 {hostname}."))
    return found


def record_lines(found: Sequence[Record]) -> list[str]:
    """Return records as lines of a zone file, aligned."""
    width = max(len(name) for name, _, _ in found) + 1
    return [f"{name + '.':<{width}}  {kind:<4}  {value}" for name, kind, value in found]
