"""The network that a client's address belongs to: limits, delays and memory of clients count by network."""

import ipaddress
from functools import lru_cache

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1024)
def client_address(address: str) -> IpAddress:
    """Return a client's address; an IPv4 address in IPv6 form (RFC 4291 2.5.5.2) becomes an IPv4 address.

    Raises `ValueError` for text that is not an IP address.
    """
    client = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped is not None:
        return client.ipv4_mapped
    return client


@lru_cache(maxsize=1024)
def network_of(peer: str) -> str:
    """Return what counts as one client: an IPv4 address alone, an IPv6 address with its /64.

    A peer without an IP address (a Unix socket) is returned unchanged.
    """
    try:
        client = client_address(peer)
    except ValueError:
        return peer
    if isinstance(client, ipaddress.IPv4Address):
        return str(client)
    return str(ipaddress.IPv6Address(int(client) >> 64 << 64)) + "/64"


@lru_cache(maxsize=1024)
def site_of(network: str) -> str:
    """Return all that a provider may give to one customer: the /56 around an IPv6 /64; else the network itself."""
    if not network.endswith("/64"):
        return network
    return str(ipaddress.IPv6Network(network).supernet(new_prefix=56))
