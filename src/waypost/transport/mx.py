"""From MX records to the servers of a domain, in the order in which they are tried (RFC 5321 section 5.1).

Pure functions over answers that somebody else asked DNS for: `usable` reads the MX records, `servers` the
addresses of their hosts. What can't be reached is said as `NoNextHop`, with the RFC 3463 status of the reason.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from itertools import zip_longest
from typing import Any

from waypost.dns import Answer, DnsError, DnsTemporary, IpAddress, Mx
from waypost.transport.next_hops import NoNextHop, Server
from waypost.transport.public import is_host, is_public, plain

MOST_HOSTS = 20
"""MX hosts whose addresses are asked for; a domain with more has backups enough."""
MOST_ADDRESSES = 10
"""Addresses of one host that are tried."""
MOST_SERVERS = 30
"""Servers of one domain that are tried."""

_BEHIND = 65_536  # more than every preference (RFC 1035 section 3.3.9)

Shuffle = Callable[[list[Any]], None]


@dataclass(frozen=True, slots=True)
class Exchanger:
    """A host that takes mail for a domain, with the answer of DNS for its addresses: the addresses, or why it has none.

    `complete` is False when it may have more addresses, which could not be had this time. `note` says what is wrong
    with its record, though it is used.
    """

    host: str
    preference: int
    addresses: tuple[IpAddress, ...] | DnsError
    complete: bool = True
    note: str | None = None

    @property
    def whole(self) -> bool:
        """True when DNS has said all that there is to say of its addresses."""
        return self.complete and not isinstance(self.addresses, DnsTemporary)


@dataclass(frozen=True, slots=True)
class MxPolicy:
    """What this host asks of every server. `hostname` and `own_addresses` (of its listeners) are its own."""

    hostname: str
    own_addresses: Collection[IpAddress]
    port: int
    allow_private: bool


def usable(domain: str, records: Sequence[Mx], shuffle: Shuffle) -> list[Mx]:
    """Return the MX records that name a host, best first, those of one preference in random order.

    No records at all mean the implicit MX: the domain itself (RFC 5321 5.1). Raises `NoNextHop` for the null MX
    (RFC 7505 section 3), and when no record names a host.
    """
    if not records:
        return [Mx(0, domain)]
    named = [record for record in records if record.host]
    if not named:
        raise NoNextHop(f"{domain} takes no mail (its MX is the null MX of RFC 7505)", status="5.1.10", permanent=True)
    hosts = [record for record in named if literal_host(record.host) or "" not in record.host.split(".")]
    if not hosts:
        raise NoNextHop(
            f"the MX of {domain} names no host: {', '.join(record.host for record in named[:3])}",
            status="5.4.4",
            permanent=True,
        )
    shuffle(hosts)
    best: dict[str, Mx] = {}
    for record in sorted(hosts, key=lambda record: record.preference):
        best.setdefault(record.host, record)
    return list(best.values())[:MOST_HOSTS]


def literal_host(host: str) -> IpAddress | None:
    """Return the IP address that stands in the place of an MX host's name, with or without brackets.

    RFC 1035 section 3.3.9 wants a name there. Thousands of domains have an address, and large senders deliver to it.
    """
    text = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "%" in text:  # a zone belongs to this host alone, and makes an address of ours look like another
        return None
    try:
        return ip_address(text[5:] if text[:5].lower() == "ipv6:" else text)
    except ValueError:
        return None


def exchanger(record: Mx, answer: Answer[IpAddress] | DnsError) -> Exchanger:
    """Return the host of a record with what DNS said of its addresses."""
    if isinstance(answer, DnsError):
        return Exchanger(record.host, record.preference, answer)
    return Exchanger(record.host, record.preference, answer.records, answer.complete)


def literal_exchanger(record: Mx, address: IpAddress) -> Exchanger:
    """Return the host of a record that has an IP address in the place of a name."""
    note = f"the MX {record.host} is an IP address and no name (RFC 1035 section 3.3.9)"
    return Exchanger(record.host, record.preference, (address,), note=note)


def servers(
    domain: str, exchangers: Sequence[Exchanger], terms: MxPolicy, shuffle: Shuffle, *, complete: bool = True
) -> tuple[Server, ...]:
    """Return the servers of a domain in the order in which they are tried. Raises `NoNextHop` if no server is left.

    `exchangers` come best first; `complete` is False when the domain has more of them. This host, and all that is not
    better, is left out: handing a message to an equal would only bring it back (RFC 5321 5.1). That there is no way is
    permanent only when DNS has told all that could be one.
    """
    better = _better_than_us(domain, exchangers, terms, complete)
    refused: list[IpAddress] = []
    chosen: dict[IpAddress, Server] = {}
    later: dict[IpAddress, Server] = {}
    # First two of each host at least (RFC 5321 5.1), and not so many that the backups' turn never comes; then the rest.
    share = max(2, MOST_ADDRESSES // max(1, len(better)))
    for exchanger in better:
        if isinstance(exchanger.addresses, DnsError):
            continue
        allowed: list[IpAddress] = []
        for address in exchanger.addresses:
            (allowed if _allowed(address, terms) else refused).append(plain(address))
        for place, address in enumerate(interleaved(allowed, shuffle)):
            first = place < share
            rank = exchanger.preference + (0 if first else _BEHIND)
            (chosen if first else later).setdefault(address, _server(exchanger, address, terms, rank))
    if not chosen:
        raise _why_none(domain, better, refused, complete)
    for address, server in later.items():
        chosen.setdefault(address, server)
    return tuple(chosen.values())[:MOST_SERVERS]


def _server(exchanger: Exchanger, address: IpAddress, terms: MxPolicy, rank: int) -> Server:
    name = exchanger.host if exchanger.note is None else None
    return Server(name, address, terms.port, exchanger.note, rank)


def literal_server(address: IpAddress, terms: MxPolicy) -> Server:
    """Return the server of an address literal (RFC 5321 4.1.3), under the same terms as those of a domain."""
    if plain(address) in terms.own_addresses:
        raise NoNextHop(f"mail loop: [{address}] is an address of this host", status="5.4.6", permanent=True)
    if not _allowed(address, terms):
        raise _only_refused(f"[{address}]", [address])
    return Server(None, plain(address), terms.port)


def _better_than_us(domain: str, exchangers: Sequence[Exchanger], terms: MxPolicy, complete: bool) -> list[Exchanger]:
    ours = [exchanger.preference for exchanger in exchangers if _is_us(exchanger, terms)]
    if not ours:
        return list(exchangers)
    better = [exchanger for exchanger in exchangers if exchanger.preference < min(ours)]
    if not better:
        raise _verdict(f"mail loop: the MX of {domain} points to this host", "5.4.6", permanent=complete)
    return better


def _is_us(exchanger: Exchanger, terms: MxPolicy) -> bool:
    if exchanger.host.rstrip(".").lower() == terms.hostname.rstrip(".").lower():
        return True
    if isinstance(exchanger.addresses, DnsError):
        return False
    return any(plain(address) in terms.own_addresses for address in exchanger.addresses)


def _allowed(address: IpAddress, terms: MxPolicy) -> bool:
    return is_host(address) if terms.allow_private else is_public(address)


def interleaved(addresses: Iterable[IpAddress], shuffle: Shuffle) -> list[IpAddress]:
    """Return the addresses, IPv6 and IPv4 in turn: a broken path of one kind costs one time-out, not many."""
    families: tuple[list[IpAddress], list[IpAddress]] = ([], [])
    for address in dict.fromkeys(addresses):
        families[isinstance(address, IPv4Address)].append(address)
    for family in families:
        shuffle(family)
    return [address for pair in zip_longest(*families) for address in pair if address is not None]


def _why_none(domain: str, exchangers: Sequence[Exchanger], refused: Sequence[IpAddress], complete: bool) -> NoNextHop:
    for exchanger in exchangers:
        if isinstance(exchanger.addresses, DnsTemporary):
            return dns_trouble(exchanger.addresses)
        if not exchanger.complete:
            return dns_trouble(DnsTemporary(f"{exchanger.host}: not all of its addresses could be had"))
    if refused:
        return _only_refused(f"the mail servers of {domain}", refused, permanent=complete)
    if [exchanger.host for exchanger in exchangers] == [domain]:
        return _verdict(f"{domain} has neither a mail server (MX) nor an address", "5.1.2", permanent=complete)
    hosts = ", ".join(exchanger.host for exchanger in exchangers[:3])
    return _verdict(f"no mail server of {domain} has an address ({hosts})", "5.4.4", permanent=complete)


def _verdict(words: str, status: str, *, permanent: bool) -> NoNextHop:
    """A failure that is permanent when nothing is left to ask; else other servers may be seen another time."""
    if permanent:
        return NoNextHop(words, status=status, permanent=True)
    return NoNextHop(
        f"{words}; but it has more mail servers than are looked at", status="4" + status[1:], permanent=False
    )


def _only_refused(whose: str, refused: Sequence[IpAddress], *, permanent: bool = True) -> NoNextHop:
    shown = ", ".join(str(address) for address in refused[:3])
    words = f"{whose}: only addresses of private or reserved networks ({shown}), and this host does not deliver there"
    return _verdict(words, "5.4.4", permanent=permanent)


def no_such_domain(domain: str) -> NoNextHop:
    """Return the failure for a domain that DNS does not know."""
    return NoNextHop(f"the domain {domain} does not exist", status="5.1.2", permanent=True)


def dns_trouble(error: DnsTemporary) -> NoNextHop:
    """Return the failure for a question that DNS did not answer this time."""
    return NoNextHop(f"the name server gave no answer: {error}", status="4.4.3", permanent=False)
