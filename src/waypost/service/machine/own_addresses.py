"""The IP addresses of this machine, as Linux tells them: mail for one of them would come back to us."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from waypost.config.listener_protocols import Clients
from waypost.config.settings import IpAddress, Listener


def own_addresses(listeners: Iterable[Listener], *, net: Path = Path("/proc/net")) -> frozenset[IpAddress]:
    """Return the addresses on which these listeners take mail from other servers.

    `0.0.0.0` and `::` stand for every address that the machine has now.
    """
    found: set[IpAddress] = set()
    for listener in listeners:
        if listener.protocol.clients is not Clients.MAIL_SERVERS:
            continue
        if listener.address.is_unspecified:
            found |= _machine_v6(net) if listener.address.version == 6 else _machine_v4(net)
        else:
            found.add(listener.address)
    return frozenset(found)


def machine_addresses(net: Path = Path("/proc/net")) -> frozenset[IpAddress]:
    """Return every address that the machine has now."""
    return frozenset(_machine_v4(net) | _machine_v6(net))


def _machine_v4(net: Path) -> set[IpAddress]:
    """The hosts that the kernel's routing table calls local: each stands above a line `/32 host LOCAL`."""
    found: set[IpAddress] = set()
    last = ""
    for line in _lines(net / "fib_trie"):
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            found.add(IPv4Address(last))
    return found


def _machine_v6(net: Path) -> set[IpAddress]:
    return {IPv6Address(int(line.split()[0], 16)) for line in _lines(net / "if_inet6")}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:  # a kernel without this kind of address
        return []
