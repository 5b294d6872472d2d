"""Every setting of Waypost, as frozen types: names, defaults, and what each means.

The docstring under a field is its manual; `docs/configuration.md` is made from this file.
Durations are microseconds in here ("5m" in the file), sizes octets ("50 MiB" in the file).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KIB = 1024
MIB = 1024 * 1024


class ListenerProtocol(StrEnum):
    """What is spoken on a listener."""

    SMTP = "smtp"
    SUBMISSION = "submission"
    SUBMISSIONS = "submissions"
    LMTP = "lmtp"
    POP3 = "pop3"
    POP3S = "pop3s"


@dataclass(frozen=True, slots=True)
class Listener:
    """One address on which the service listens."""

    protocol: ListenerProtocol
    """`smtp`, `submission`, `submissions`, `lmtp`, `pop3` or `pop3s`."""
    address: IpAddress
    port: int
    proxy_protocol: tuple[IpNetwork, ...] = ()
    """Networks of load balancers whose PROXY protocol header (v1 or v2) is believed, and demanded."""


@dataclass(frozen=True, slots=True)
class Tls:
    """`[tls]`: the certificate of all listeners."""

    certificate: Path
    """PEM file: the certificate, then its chain. Relative to the configuration file."""
    key: Path
    """PEM file: the private key."""


@dataclass(frozen=True, slots=True)
class Dns:
    """`[dns]`: the servers that are asked."""

    servers: tuple[tuple[IpAddress, int], ...] = ()
    """Recursive name servers, as "127.0.0.1:53". Default: the system's."""
    timeout: int = 5 * SECOND
    """How long one server may take for one question."""


@dataclass(frozen=True, slots=True)
class Route:
    """`[[route]]`: mail for some domains takes a fixed way instead of the MX of its domain.

    With `domains = ["*"]` it is a smart host. A hosted domain with a route is hosted partly elsewhere:
    recipients that are unknown here are relayed along the route.
    """

    domains: tuple[str, ...]
    """Domain names, `.example.org` for all below it, or "*" for every domain without a better match."""
    host: str
    """Where to send: a host name or an IP address in brackets."""
    port: int = 25
    lmtp: bool = False
    """Speak LMTP (RFC 2033) instead of SMTP."""
    tls: str = "opportunistic"
    """`opportunistic` (STARTTLS if offered, any certificate), `required` (STARTTLS, verified certificate),
    `implicit` (TLS from the first byte, verified certificate), or `none`."""
    username: str | None = None
    """Log in as this user, by SCRAM-SHA-256 or PLAIN, only over TLS."""
    password_file: Path | None = None
    """File that holds the password, alone on its first line."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """`[outbound]`: how mail leaves."""

    port: int = 25
    """The port of other domains' mail servers; other values are for laboratories."""
    allow_private_addresses: bool = False
    """May deliver to loopback, link-local and private networks when an MX points there."""
    source_addresses: tuple[IpAddress, ...] = ()
    """Local addresses that connections go out from, used in turn. Default: the system chooses."""
    max_connections: int = 500
    """Connections open at once, over all destinations, in one worker."""
    max_connections_per_destination: int = 20
    """The ceiling to which concurrency for one destination grows."""
    max_messages_per_connection: int = 100
    connect_timeout: int = 30 * SECOND
    command_timeout: int = 5 * MINUTE
    """How long the next hop may take to answer a command (RFC 5321 4.5.3.2)."""
    data_timeout: int = 10 * MINUTE
    """How long the next hop may take to answer the end of the message."""


@dataclass(frozen=True, slots=True)
class Queue:
    """`[queue]`: how long and how often delivery is tried."""

    retry: tuple[int, ...] = (1 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 1 * HOUR, 2 * HOUR)
    """Waits between attempts; the last value repeats."""
    jitter: float = 0.1
    """Each wait is made up to this share longer, at random."""
    delayed_notice: int = 4 * HOUR
    """The sender is told of the delay after this time; "0s" switches it off."""
    expire: int = 5 * DAY
    """The message is returned after this time."""
    return_full_below: int = 64 * KIB
    """A report returns the whole message up to this size, only its headers past it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`[limits]`: ceilings that protect the service. The defaults are generous."""

    message_size: int = 50 * MIB
    recipients: int = 1000
    """Recipients of one message (RFC 5321 4.5.3.1.8 asks for 100 at least)."""
    header_size: int = 256 * KIB
    received_headers: int = 50
    """A message with more Received fields is in a loop (RFC 5321 6.3)."""
    memory_per_message: int = 1 * MIB
    """A message larger than this goes to disk while it arrives."""
    connections: int = 10_000
    """Connections in one worker, all listeners together."""
    connections_per_network: int = 50
    """Connections from one client network (IPv4 /32, IPv6 /64), in one worker."""
    connection_rate_per_network: int = 600
    """New connections from one client network in a minute, in one worker."""
    exempt_networks: tuple[IpNetwork, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    """Networks without the two limits above."""
    errors: int = 20
    """Refused commands after which a session is closed."""
    transactions: int = 1000
    """Messages in one session."""
    command_timeout: int = 5 * MINUTE
    """How long a client may be silent (RFC 5321 4.5.3.2.7)."""
    session_time: int = 2 * HOUR
    """How long one session may last."""


@dataclass(frozen=True, slots=True)
class Submission:
    """`[submission]`: what an account may do."""

    messages_per_hour: int = 200
    messages_per_day: int = 1000
    recipients_per_hour: int = 1000
    recipients_per_day: int = 5000
    send_as: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """`[submission.send_as]`: account = ["address", "@domain"]: further senders that an account may use."""


@dataclass(frozen=True, slots=True)
class Reception:
    """`[reception]`: how addresses of hosted domains are read."""

    subaddress_separator: str = "+"
    """`bob+tag@` reaches `bob@`; "" switches it off."""
    postmaster: str | None = None
    """Who gets mail for postmaster@ and abuse@ of hosted domains that have no such account or alias.
    Default: the first account of the domain, or else the first account of all."""
    greeting_delay: int = 0
    """Wait this long before the greeting, and refuse clients that talk first."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """`[mailbox]`: defaults of accounts."""

    quota: int = 5 * 1024 * MIB
    """Octets a new account may store; 0 for no limit."""


@dataclass(frozen=True, slots=True)
class Service:
    """`[service]`: the processes."""

    workers: int = 0
    """Worker processes; 0 means one a core."""
    user: str | None = None
    """Workers run as this user when the service is started as root. Default: the owner of the data
    directory if that is not root, else `waypost` if there is such a user, else `nobody`."""
    stop_grace: int = 30 * SECOND
    """How long transactions in flight may take to finish when the service stops."""
    journal_days: int = 30
    """How long `waypost trace` remembers a message that is gone."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, read from one TOML file."""

    path: Path
    """The configuration file itself."""
    hostname: str
    """The full name of this host: in the greeting, in EHLO, in Received."""
    domains: tuple[str, ...]
    """Domains whose mail is hosted here (A-labels, lower case). May be empty: a send-only host."""
    data: Path
    """The data directory, relative to the configuration file."""
    listeners: tuple[Listener, ...] = ()
    tls: Tls | None = None
    dns: Dns = field(default_factory=Dns)
    outbound: Outbound = field(default_factory=Outbound)
    queue: Queue = field(default_factory=Queue)
    limits: Limits = field(default_factory=Limits)
    submission: Submission = field(default_factory=Submission)
    reception: Reception = field(default_factory=Reception)
    mailbox: Mailbox = field(default_factory=Mailbox)
    service: Service = field(default_factory=Service)
    routes: tuple[Route, ...] = ()
