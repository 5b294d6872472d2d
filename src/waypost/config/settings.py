"""Every setting of Waypost, as frozen types: names, defaults, and what each means.

The docstring under a field is its manual; `python -m waypost.config.reference` makes `docs/configuration.md` of them.
A field's type says how its value is written in the file: the kinds of value are named below, and `kinds.py` reads
them. So a new setting is one field with its docstring, here, and nothing else.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated

from waypost.config.listener_protocols import ListenerProtocol as ListenerProtocol

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
IpAndPort = tuple[IpAddress, int]
SourceAddress = Annotated[IpAddress, "source address"]
"""An address of one host, as connections can come from it."""
ListenAddress = Annotated[IpAddress, "listen address"]
"""In the file it is written with its port, which is a separate field here."""

Duration = Annotated[int, "duration"]
"""Microseconds here, "5m" in the file; may be 0 ("0s")."""
Timeout = Annotated[int, "timeout"]
"""As `Duration`, but longer than 0."""
Size = Annotated[int, "size"]
"""Octets here, "50 MiB" or a number of octets in the file."""
Count = Annotated[int, "count"]
"""A whole number from 1 on; where 0 makes sense, the type is `int`."""
Port = Annotated[int, "port"]
Share = Annotated[float, "share"]
"""A number from 0 to 1."""
Domain = Annotated[str, "domain"]
"""A domain name: A-labels in lower case here, any form in the file."""
HostName = Annotated[str, "host name"]
"""A domain name of at least two labels."""
DomainPattern = Annotated[str, "domain pattern"]
"""A domain name, `.example.org` for all below it, or `*`."""
NextHop = Annotated[str, "next hop"]
"""A host name, or an IP address in brackets."""
MailAddress = Annotated[str, "mail address"]
"""Local part and domain, both in lower case, the domain in A-labels."""
Separator = Annotated[str, "separator"]
"""One character, or nothing."""
Senders = tuple[tuple[str, tuple[str, ...]], ...]
"""A table in the file: account = ["address", "@domain"]."""

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KIB = 1024
MIB = 1024 * 1024


class TlsPolicy(StrEnum):
    """How a route uses TLS."""

    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"
    IMPLICIT = "implicit"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Listener:
    """`[[listener]]`: one address on which the service listens; repeat it for each."""

    protocol: ListenerProtocol
    """`smtp` (mail from other servers, port 25), `submission` (mail from users, 587), `submissions` (the same with TLS
    from the first byte, 465), `trusted-submission` (mail from devices without a login, `[[trusted_network]]`), `lmtp`
    (mail from a server in front of this one), `pop3` (110) or `pop3s` (995). Where people log in, `[tls]` is needed."""
    address: ListenAddress
    """Where to listen, as "0.0.0.0:25" or "[::]:25"; port 0 is any free one."""
    port: int = field(metadata={"behind": "address"})
    proxy_protocol: tuple[IpNetwork, ...] = ()
    """Networks of load balancers whose PROXY protocol header (v1 or v2) is believed, and demanded."""


@dataclass(frozen=True, slots=True)
class TrustedNetwork:
    """`[[trusted_network]]`: devices that can't log in, such as printers and scanners, submit without a login and TLS.

    Only listeners with the protocol `trusted-submission` allow it. Off by default.

    Every client in these networks is trusted, so keep them small: best, only the addresses of the devices.
    `waypost check` refuses networks that hold an address of this machine, a gateway or a bridge: with a container's
    proxy, every stranger connects from one of these.
    """

    networks: tuple[IpNetwork, ...]
    """The networks of the devices, as their TCP connections come from: "192.168.7.40/32". Not wider than /16 (IPv6
    /48)."""
    account: MailAddress
    """The account in whose name they send: its limits in `[submission]` count, and disabling it stops them."""
    senders: tuple[MailAddress, ...]
    """The only sender addresses that the devices may use, in the envelope and in From. Whole domains are refused."""
    allow_public_addresses: bool = False
    """Allow public networks. Anybody who can send from such an address can send in your name."""


@dataclass(frozen=True, slots=True)
class Tls:
    """`[tls]`: the certificate of all listeners."""

    certificate: Path
    """PEM file: the certificate, then its chain. Relative to the configuration file."""
    key: Path
    """PEM file: the private key."""
    second_certificate: Path | None = None
    """PEM file: a certificate with a key of another kind, RSA beside ECDSA. Mail servers that can't use the first one
    get it; mail programs always get the first."""
    second_key: Path | None = None
    """PEM file: its private key."""


@dataclass(frozen=True, slots=True)
class Dns:
    """`[dns]`: the name servers."""

    servers: tuple[IpAndPort, ...] = ()
    """Recursive name servers, as "127.0.0.1:53". Default: the system's."""
    timeout: Timeout = 5 * SECOND
    """How long one server may take for one question."""


@dataclass(frozen=True, slots=True)
class Route:
    """`[[route]]`: mail for some domains goes to a fixed host instead of the MX of its domain.

    With `domains = ["*"]` it is a smart host. A hosted domain with a route is hosted partly elsewhere:
    recipients that are unknown here are relayed along the route.
    """

    domains: tuple[DomainPattern, ...]
    """Domain names, `.example.org` for all below it, or "*" for every domain without a better match."""
    host: NextHop
    """Where to send: a host name or an IP address in brackets."""
    port: Port = 25
    """The port of that host: 25, 587 or 465 mostly."""
    lmtp: bool = False
    """Speak LMTP (RFC 2033) instead of SMTP."""
    tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC
    """`opportunistic` (STARTTLS if offered, any certificate), `required` (STARTTLS, verified certificate),
    `implicit` (TLS from the first byte, verified certificate), or `none`."""
    username: str | None = None
    """Log in as this user, by SCRAM-SHA-256 or PLAIN, only over TLS."""
    password_file: Path | None = None
    """File that holds the password, alone on its first line."""


@dataclass(frozen=True, slots=True)
class EgressSource:
    """`[[outbound.source]]`: an address of this machine from which mail leaves; repeat it for each.

    Without any, the system chooses the address. A message keeps its source at a destination: each attempt comes from
    the same address, until something moves the message, and then `waypost trace` says why. Messages with the same
    sender and first recipient begin at the same source. An IPv4 source reaches servers with IPv4 addresses only, and
    an IPv6 source those with IPv6 addresses; a server without a source of its family is not tried.
    """

    address: SourceAddress
    """The address; in DNS its PTR record should be the EHLO name."""
    ehlo: HostName | None = None
    """The name in EHLO, which DNS should lead back to the address. Default: `hostname`."""
    warm: bool = True
    """Receivers know this address, so it needs no warm-up. `false` is shown by `waypost check` and changes nothing
    yet: this version has no warm-up."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """`[outbound]`: how mail leaves."""

    port: Port = 25
    """The port of other domains' mail servers; other values are for laboratories."""
    allow_private_addresses: bool = False
    """May deliver to loopback, link-local and private networks when an MX points there."""
    source_addresses: tuple[SourceAddress, ...] = ()
    """The form of version 0.1.0: addresses that mail leaves from. `[[outbound.source]]` says more; use one of both."""
    max_connections: Count = 500
    """Connections open at once, over all destinations, in one worker. One account or server alone gets half of them."""
    max_connections_per_destination: Count = 20
    """The ceiling to which concurrency for one destination grows, from all sources together."""
    max_messages_per_connection: Count = 100
    """After so many messages a connection is closed, and a fresh one opened."""
    connect_timeout: Timeout = 30 * SECOND
    """How long the next hop may take to answer a connection."""
    command_timeout: Timeout = 5 * MINUTE
    """How long the next hop may take to answer a command (RFC 5321 4.5.3.2)."""
    data_timeout: Timeout = 10 * MINUTE
    """How long the next hop may take to answer the end of the message."""
    sources: tuple[EgressSource, ...] = field(default=(), metadata={"key": "source"})

    @property
    def egress(self) -> tuple[EgressSource, ...]:
        """The addresses that mail leaves from, whichever way they are written; none: the system chooses."""
        return self.sources or tuple(map(EgressSource, dict.fromkeys(self.source_addresses)))


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`[queue]`: how long and how often delivery is tried."""

    retry: tuple[Timeout, ...] = (1 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 1 * HOUR, 2 * HOUR)
    """Waits between attempts; the last value repeats."""
    jitter: Share = 0.1
    """Each wait is made up to this share longer, at random."""
    delayed_notice: Duration = 4 * HOUR
    """The sender is told of the delay after this time; "0s" switches it off."""
    expire: Timeout = 5 * DAY
    """The message is returned after this time."""
    return_full_below: Size = 64 * KIB
    """A report returns the whole message up to this size, only its headers past it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`[limits]`: ceilings that protect the service. The defaults are generous."""

    message_size: Size = 50 * MIB
    """The largest message, as SIZE announces it (RFC 1870)."""
    recipients: Count = 1000
    """Recipients of one message (RFC 5321 4.5.3.1.8 asks for 100 at least)."""
    header_size: Size = 256 * KIB
    """The largest header section of a message."""
    received_headers: Count = 50
    """A message with more Received fields is in a loop (RFC 5321 6.3)."""
    memory_per_message: Size = 1 * MIB
    """A message larger than this goes to disk while it arrives."""
    memory_for_arrivals: Size = 256 * MIB
    """The memory in one worker for all arriving messages together: their headers, and bodies that are not on disk. Past
    it, bodies go to disk early, and a message with more than 16 KiB of header is refused with 452."""
    connections: Count = 10_000
    """Connections in one worker, all listeners together."""
    connections_per_network: Count = 50
    """Connections from one client network (IPv4 /32, IPv6 /64), in one worker."""
    connection_rate_per_network: Count = 600
    """New connections from one client network in a minute, in one worker."""
    exempt_networks: tuple[IpNetwork, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    """Networks without the two limits above."""
    errors: Count = 20
    """Refused commands after which a session is closed."""
    junk_commands: Count = 100
    """Useless commands in a session: NOOP, RSET, VRFY, a second EHLO, refused commands, transactions that are given up.
    After this many, each reply is delayed by a second; after twice as many, the session is closed. A message or a login
    resets the count. In POP3 each message of the mailbox adds four to the limit."""
    transactions: Count = 1000
    """Messages in one session."""
    command_timeout: Timeout = 5 * MINUTE
    """How long a client may be silent (RFC 5321 4.5.3.2.7)."""
    login_time: Timeout = 3 * MINUTE
    """How long a client of POP3 or submission may take to log in, however much it sends. In submission at least
    `command_timeout`."""
    session_time: Timeout = 2 * HOUR
    """How long one session may last."""


@dataclass(frozen=True, slots=True)
class Submission:
    """`[submission]`: what an account may do."""

    messages_per_hour: Count = 200
    """Messages that an account may send in an hour; more are refused until it has passed."""
    messages_per_day: Count = 1000
    """The same for a day."""
    recipients_per_hour: Count = 1000
    """Recipients, over all messages, that an account may send to in an hour."""
    recipients_per_day: Count = 5000
    """The same for a day."""
    send_as: Senders = ()
    """`[submission.send_as]`: account = ["address", "@domain"]: further senders that an account may use."""


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """`[login]`: how users prove who they are."""

    channel_binding: bool = True
    """Offer SCRAM-SHA-256-PLUS, with which a login fails if somebody intercepts the connection. Some mail programs
    choose it because it is offered, but can't use it: mutt and neomutt of Debian 12. `false` leaves it out."""


@dataclass(frozen=True, slots=True)
class Reception:
    """`[reception]`: how addresses of hosted domains are read."""

    subaddress_separator: Separator = "+"
    """`bob+tag@` reaches `bob@`; "" switches it off."""
    postmaster: MailAddress | None = None
    """The address that gets mail for postmaster@ and abuse@ of hosted domains that have no such account or alias.
    Default: the first account of the domain, or else the first account of all."""
    greeting_delay: Duration = 0
    """Wait this long before the greeting, and refuse clients that talk first."""


@dataclass(frozen=True, slots=True)
class MailboxSettings:
    """`[mailbox]`: defaults of accounts."""

    quota: Size = 5 * 1024 * MIB
    """Octets a new account may store; 0 for no limit."""


@dataclass(frozen=True, slots=True)
class Service:
    """`[service]`: the processes."""

    workers: int = 0
    """Worker processes; 0 means one per core. With at least one per core, each worker is bound to its own core."""
    user: str | None = None
    """Workers run as this user when the service is started as root. Default: the owner of the data
    directory if that is not root, else `waypost` if there is such a user, else `nobody`."""
    stop_grace: Duration = 30 * SECOND
    """How long transactions in flight may take to finish when the service stops."""
    journal_days: Count = 30
    """Days for which `waypost trace` remembers a message that was delivered, relayed or returned."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, read from one TOML file."""

    path: Path = field(metadata={"key": None})
    """The configuration file itself."""
    hostname: HostName
    """The full name of this host: in the greeting, in EHLO, in Received."""
    domains: tuple[Domain, ...]
    """Domains whose mail is hosted here (A-labels, lower case). May be empty: a send-only host."""
    data: Path
    """The data directory, relative to the configuration file."""
    listeners: tuple[Listener, ...] = field(default=(), metadata={"key": "listener"})
    trusted_networks: tuple[TrustedNetwork, ...] = field(default=(), metadata={"key": "trusted_network"})
    tls: Tls | None = None
    dns: Dns = field(default_factory=Dns)
    outbound: Outbound = field(default_factory=Outbound)
    queue: QueueSettings = field(default_factory=QueueSettings)
    limits: Limits = field(default_factory=Limits)
    login: LoginSettings = field(default_factory=LoginSettings)
    submission: Submission = field(default_factory=Submission)
    reception: Reception = field(default_factory=Reception)
    mailbox: MailboxSettings = field(default_factory=MailboxSettings)
    service: Service = field(default_factory=Service)
    routes: tuple[Route, ...] = field(default=(), metadata={"key": "route"})
    source: bytes = field(default=b"", metadata={"key": None}, repr=False, compare=False)
    """The octets of the file that this was read from."""
