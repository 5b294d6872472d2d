"""The way to a destination, as the router finds it and the relay walks it. Values only."""

from dataclasses import dataclass, field

from waypost.config.settings import IpAddress, TlsPolicy
from waypost.transport.receiver import Receiver


@dataclass(frozen=True, slots=True)
class Server:
    """One address to try. `name` is the host's name for TLS and for people; None for an address literal.

    `note` says what is wrong with the way to it, though it is used; it is told with each attempt. Servers of one `rank`
    are equals: their order means nothing (RFC 5321 section 5.1).
    """

    name: str | None
    address: IpAddress
    port: int
    note: str | None = None
    rank: int = field(default=0, compare=False)

    @property
    def endpoint(self) -> str:
        """IP address and port as text."""
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"

    def __str__(self) -> str:
        return f"{self.name} {self.endpoint}" if self.name else self.endpoint


@dataclass(frozen=True, slots=True)
class NextHops:
    """The servers of a destination in the order in which they are tried, and how to speak to them.

    `username` and `password` are set for a smart host that wants a login. `whole` is False when DNS did not name
    all servers this time. `shared`: many destinations go this way, and may share connections. `receiver` is who runs
    the servers.
    """

    servers: tuple[Server, ...]
    lmtp: bool = False
    tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC
    username: str | None = None
    password: str | None = None
    whole: bool = True
    shared: bool = False
    receiver: Receiver | None = None

    @property
    def families(self) -> frozenset[int]:
        """The families of its servers' addresses: 4, 6 or both."""
        return frozenset(server.address.version for server in self.servers)


class NoNextHop(Exception):
    """A destination can't be reached by any server; `status` is the RFC 3463 code, the message plain words."""

    def __init__(self, words: str, *, status: str, permanent: bool) -> None:
        super().__init__(words)
        self.status = status
        self.permanent = permanent
