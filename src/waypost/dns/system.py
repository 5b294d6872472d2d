"""The name servers of this system, as resolv.conf(5) names them."""

from ipaddress import IPv4Address, ip_address
from pathlib import Path

from waypost.dns.resolver import IpAddress

_PORT = 53
_MOST = 3  # MAXNS of resolv.conf(5)


def system_servers(path: Path = Path("/etc/resolv.conf")) -> tuple[tuple[IpAddress, int], ...]:
    """Return the servers of `path`; the local machine when it names no server. Raises `OSError` when it can't be read.

    Lines without an IP address are ignored, as the system's own resolver does.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    servers: list[tuple[IpAddress, int]] = []
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            servers.append((ip_address(words[1]), _PORT))
        except ValueError:
            continue
    return tuple(dict.fromkeys(servers))[:_MOST] or ((IPv4Address("127.0.0.1"), _PORT),)
