"""The interface of the resolver: typed questions, typed answers, two kinds of failure.

Names are A-labels without a trailing dot. An empty answer (NODATA) is an answer; only NXDOMAIN and failures raise.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from waypost.dns.budget import QueryBudget

IpAddress = IPv4Address | IPv6Address
T = TypeVar("T")


class DnsError(Exception):
    """A question has no answer; the message names the question and says in plain words why."""


class NoSuchDomain(DnsError):
    """NXDOMAIN: the name does not exist. Permanent (RFC 2308 2.1)."""


class DnsTemporary(DnsError):
    """Time-out, SERVFAIL, REFUSED, or an answer that can't be read: ask again later."""


class OverBudget(DnsTemporary):
    """The work that asks has used up its `QueryBudget`; the question was not answered."""


@dataclass(frozen=True, slots=True)
class Mx:
    """One MX record. `host` is "" for the null MX of RFC 7505."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """Records of one question. `name` is the canonical name at the end of the CNAMEs; `authenticated` is True when
    every step had the AD bit; `ttl` is the seconds for which the answer is valid. `complete` is False when there are,
    or may be, more records: some were not read, or the lookup of one kind of address failed."""

    name: str
    records: tuple[T, ...]
    authenticated: bool
    ttl: int
    complete: bool = True


class Resolver(Protocol):
    """Asks DNS. Each method raises `NoSuchDomain` or `DnsTemporary`; CNAMEs are followed.

    `budget` is that of the work that asks; when it is spent, `OverBudget` is raised.
    """

    async def mx(self, domain: str, budget: "QueryBudget | None" = None) -> Answer[Mx]:
        """Return the MX records in any order; empty when the name has no MX records."""
        ...

    async def addresses(self, host: str, budget: "QueryBudget | None" = None) -> Answer[IpAddress]:
        """Return AAAA and A records.

        If one kind fails temporarily and the other has records, there is no error. `NoSuchDomain` is raised only when
        both kinds say NXDOMAIN: some servers wrongly say it when only one is missing (RFC 4074 section 4.2).
        """
        ...

    async def names(self, address: IpAddress, budget: "QueryBudget | None" = None) -> Answer[str]:
        """Return the names of an address (PTR: RFC 1035 section 3.5, RFC 3596 section 2.5). The owner of the address
        chooses them: a name proves nothing unless it leads back to the address."""
        ...

    async def txt(self, name: str, budget: "QueryBudget | None" = None) -> Answer[bytes]:
        """Return TXT records, the strings of each joined."""
        ...
