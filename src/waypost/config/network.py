"""IP addresses, networks and ports as settings."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from waypost.config.settings import IpAddress, IpAndPort, IpNetwork

_AND_PORT = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<four>[0-9.]+)):(?P<port>[0-9]{1,5})\Z")
_LARGEST_PORT = 65535
_BROADCAST = IPv4Address("255.255.255.255")


def parse_ip(text: str) -> IpAddress:
    """Return an IP address. Raises `ValueError` with what is wrong and what would be right."""
    try:
        return _ip(text)
    except ValueError:
        raise ValueError('not an IP address; write for example "192.0.2.1" or "2001:db8::1"') from None


def parse_source_address(text: str) -> IpAddress:
    """Return an IP address that connections can come from. Raises `ValueError` as `parse_ip` does."""
    address = parse_ip(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f'an IPv4 address in the form of IPv6; write "{address.ipv4_mapped}"')
    if address.is_unspecified:
        raise ValueError("every address and no single one; leave it out, and the system chooses")
    if address.is_multicast or address == _BROADCAST:
        raise ValueError("not an address of one host; write one that this machine has")
    if isinstance(address, IPv6Address) and address.is_link_local:
        raise ValueError("a link-local address, which reaches no mail server; write a global one")
    return address


def parse_ip_network(text: str) -> IpNetwork:
    """Return a network of IP addresses. Raises `ValueError` as `parse_ip` does."""
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f'has bits set after its prefix; write "{ip_network(text, strict=False)}"') from None
        raise ValueError('not a network; write for example "192.0.2.0/24" or "2001:db8::/32"') from None


def parse_ip_and_port(text: str, *, default_port: int | None = None, lowest: int = 1) -> IpAndPort:
    """Return the address and port of "192.0.2.1:25" or "[2001:db8::1]:25".

    With a `default_port` the port may be left out. Raises `ValueError` as `parse_ip` does.
    """
    match = _AND_PORT.match(text)
    try:
        if match is None and default_port is not None:
            return _ip(text), default_port
        if match is None:
            raise ValueError("there is no port")
        address = _ip(match["four"]) if match["four"] else IPv6Address(_ip(match["six"]))
    except ValueError:
        if default_port is not None:
            example = f'"127.0.0.1" or "[::1]:{default_port}"'
            raise ValueError(f"not an IP address, with a port or without; write for example {example}") from None
        raise ValueError('not an IP address with a port; write for example "0.0.0.0:25" or "[::]:25"') from None
    return address, check_port(int(match["port"]), lowest=lowest)


def _ip(text: str) -> IpAddress:
    if "%" in text:  # a zone means something on one link of one host only
        raise ValueError("a zone")
    return ip_address(text)


def check_port(port: int, *, lowest: int = 1) -> int:
    """Return the port. Raises `ValueError`, as `parse_ip` does, when it is not a port number from `lowest` on."""
    if not lowest <= port <= _LARGEST_PORT:
        raise ValueError(f"not a port; write a number from {lowest} to {_LARGEST_PORT}")
    return port


def format_ip_and_port(address: IpAddress, port: int) -> str:
    """Return `192.0.2.1:25` or `[2001:db8::1]:25`."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
