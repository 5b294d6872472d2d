"""The networks of `[[trusted_network]]` beside the addresses of this machine: which of them everybody could come from.

A proxy on this machine, and the proxy of a container, connect from an address of ours, of a gateway or of a bridge: in
a network that holds one of these, every stranger would be trusted. Linux says what they are, in /proc/net, and of
gateways more over netlink.
"""

import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from waypost.config.settings import IpAddress, IpNetwork, Settings
from waypost.config.toml_text import value_text
from waypost.service.machine.kernel_routes import kernel_gateways
from waypost.service.machine.own_addresses import machine_addresses
from waypost.service.machine.problems import SetupProblem

_NET = Path("/proc/net")


def dangerous_networks(
    settings: Settings, *, net: Path = _NET, gateways: Callable[[], frozenset[IpAddress]] = kernel_gateways
) -> Iterator[tuple[int, int, str]]:
    """Yield the index of a table, that of a network in it, and what is wrong with it. Raises `OSError`."""
    if not settings.trusted_networks:
        return
    known = [
        *((address, f"{address} is an address of this machine") for address in machine_addresses(net)),
        *((address, f"{address} is a gateway") for address in _gateways(net) | gateways()),
        *((address, f"{address} is where {link} would have a bridge") for address, link in _bridges(net)),
    ]
    for table, trusted in enumerate(settings.trusted_networks):
        for index, network in enumerate(trusted.networks):
            words = next((words for address, words in known if address in network), None)
            if words is not None:
                yield (
                    table,
                    index,
                    f"{words}, and behind it everybody may be; write the addresses of the devices themselves",
                )


def refuse_dangerous_networks(settings: Settings) -> None:
    """Look before a start or reload: the machine may have got another address. Raises `SetupProblem`, `OSError`."""
    problems = [
        f"trusted_network.networks = {value_text(str(settings.trusted_networks[table].networks[index]))}: {words}"
        for table, index, words in dangerous_networks(settings)
    ]
    if problems:
        raise SetupProblem(*problems)


def _gateways(net: Path) -> set[IpAddress]:
    """The gateways of all routes, the default ones among them."""
    four = {IPv4Address(_swapped(words[2])) for words in _rows(net / "route", 8) if int(words[2], 16)}
    six = {IPv6Address(int(words[4], 16)) for words in _rows(net / "ipv6_route", 10) if int(words[4], 16)}
    return four | six


def _bridges(net: Path) -> set[tuple[IpAddress, str]]:
    """The first address of each network that this machine is part of: there a bridge of containers has its own."""
    found: set[tuple[IpAddress, str]] = set()
    for words in _rows(net / "route", 8):
        if int(words[1], 16) and not int(words[2], 16):
            found.add((_first(IPv4Network((_swapped(words[1]), bin(int(words[7], 16)).count("1")))), words[0]))
    for words in _rows(net / "ipv6_route", 10):
        length = int(words[1], 16)
        if 0 < length < 128 and not int(words[4], 16) and words[9] != "lo":
            found.add((_first(IPv6Network((int(words[0], 16) >> 128 - length << 128 - length, length))), words[9]))
    return found


def _first(network: IpNetwork) -> IpAddress:
    return ip_address(network.network_address + (1 if network.prefixlen < network.max_prefixlen - 1 else 0))


def _swapped(text: str) -> int:
    """The kernel writes IPv4 addresses as numbers of this machine's byte order."""
    return int.from_bytes(int(text, 16).to_bytes(4, sys.byteorder), "big")


def _rows(path: Path, least: int) -> Iterator[list[str]]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:  # a kernel without this kind of address
        return
    for line in lines:
        words = line.split()
        if len(words) >= least and words[0] != "Iface":
            yield words
