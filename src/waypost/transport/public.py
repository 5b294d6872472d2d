"""Which IP addresses are hosts of the public internet (IANA special-purpose registries, RFC 6890).

Whoever owns a domain chooses where its MX points. Without this check, that choice would let anybody make this
host talk to services inside its own network.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from waypost.config.settings import IpAddress

_RESERVED_4 = tuple(
    IPv4Network(text)
    for text in (
        "10.0.0.0/8",  # RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, RFC 3927; clouds serve credentials there
        "172.16.0.0/12",  # RFC 1918
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",  # RFC 1918
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
    )
)
_NO_HOST_4 = tuple(IPv4Network(text) for text in ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4"))
_NO_HOST_6 = IPv6Network("ff00::/8")
_UNSPECIFIED_6 = IPv6Address("::")

_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291 2.4: nothing else is handed out
_RESERVED_6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20"))  # RFC 2928, 3849, 9637
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052


def plain(address: IpAddress) -> IpAddress:
    """Return the IPv4 address behind an IPv4-mapped one (`::ffff:192.0.2.1`), any other address as it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_host(address: IpAddress) -> bool:
    """False for what is no single host on any network: multicast, broadcast, "this network", unspecified."""
    inner = _embedded(address)
    if isinstance(inner, IPv4Address):
        return not any(inner in network for network in _NO_HOST_4)
    return inner not in _NO_HOST_6 and inner != _UNSPECIFIED_6


def is_public(address: IpAddress) -> bool:
    """True for an address that the internet routes to one host; addresses that embed another are judged by it."""
    inner = _embedded(address)
    if isinstance(inner, IPv4Address):
        return is_host(inner) and not any(inner in network for network in _RESERVED_4)
    return inner in _GLOBAL_UNICAST and not any(inner in network for network in _RESERVED_6)


def _embedded(address: IpAddress) -> IpAddress:
    """The IPv4 address to which IPv4-mapped, 6to4 (RFC 3056) and NAT64 addresses lead; else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
