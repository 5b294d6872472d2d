"""Which network a client's address stands for: what is limited, delayed or remembered counts by it."""

import ipaddress
from functools import lru_cache

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1024)
def client_address(address: str) -> IpAddress:
    """Return a client's address; one of IPv4 that arrives as IPv6 (RFC 4291 2.5.5.2) is one of IPv4.

    Raises `ValueError` for what is no IP address.
    """
    client = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped is not None:
        return client.ipv4_mapped
    return client


@lru_cache(maxsize=1024)
def network_of(peer: str) -> str:
    """Return what counts as one client: an IPv4 address alone, an IPv6 address with its /64.

    What is no IP address (a Unix socket) stands for itself.
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
    """Return what one customer of a provider may have of networks: the /56 of an IPv6 /64; others are alone."""
    if not network.endswith("/64"):
        return network
    return str(ipaddress.IPv6Network(network).supernet(new_prefix=56))
