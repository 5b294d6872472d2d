"""The way to a destination, as the router finds it and the relay walks it. Values only."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

IpAddress = IPv4Address | IPv6Address


class TlsPolicy(StrEnum):
    """What TLS a way asks for; the names are those of `route.tls` in the configuration."""

    NONE = "none"  # never
    OPPORTUNISTIC = "opportunistic"  # STARTTLS where it is offered, any certificate (RFC 7435)
    REQUIRED = "required"  # STARTTLS with a verified certificate, or no delivery
    IMPLICIT = "implicit"  # TLS from the first byte, verified


@dataclass(frozen=True, slots=True)
class Server:
    """One address to try. `name` is the host's name for TLS and for people; None for an address literal."""

    name: str | None
    address: IpAddress
    port: int

    def __str__(self) -> str:
        literal = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.name + ' ' if self.name else ''}{literal}:{self.port}"


@dataclass(frozen=True, slots=True)
class Way:
    """The servers of a destination in the order in which they are tried, and how to speak to them.

    `username` and `password` are set for a smart host that wants a login.
    """

    servers: tuple[Server, ...]
    lmtp: bool = False
    tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC
    username: str | None = None
    password: str | None = None


class NoWay(Exception):
    """A destination can't be reached by any server; `status` is the RFC 3463 code, the message plain words."""

    def __init__(self, words: str, *, status: str, permanent: bool) -> None:
        super().__init__(words)
        self.status = status
        self.permanent = permanent
