"""The resolver as the other rooms see it: typed questions, typed answers, two kinds of failure.

Names are A-labels without a trailing dot. An empty answer (NODATA) is an answer; only NXDOMAIN and trouble raise.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from waypost.dns.budget import Budget

IpAddress = IPv4Address | IPv6Address
T = TypeVar("T")


class DnsError(Exception):
    """A question has no answer; the message names the question and says in plain words why."""


class NoSuchDomain(DnsError):
    """NXDOMAIN: the name does not exist. Permanent (RFC 2308 2.1)."""


class DnsTemporary(DnsError):
    """Time-out, SERVFAIL, REFUSED, or an answer that can't be read: ask again later."""


class OverBudget(DnsTemporary):
    """The piece of work that asks has asked enough; what DNS would say is not known."""


@dataclass(frozen=True, slots=True)
class Mx:
    """One MX record. `host` is "" for the null MX of RFC 7505."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """Records of one question. `name` is the canonical name behind CNAMEs; `authenticated` is the AD bit of every
    step; `ttl` is the seconds for which the answer holds. `complete` is False when there are, or may be, more records:
    there were more than are read, or one kind of address could not be had this time."""

    name: str
    records: tuple[T, ...]
    authenticated: bool
    ttl: int
    complete: bool = True


class Resolver(Protocol):
    """Asks DNS. Each method raises `NoSuchDomain` or `DnsTemporary`; CNAMEs are followed.

    `budget` is that of the work for which is asked; when it is spent, `OverBudget` is raised.
    """

    async def mx(self, domain: str, budget: "Budget | None" = None) -> Answer[Mx]:
        """Return the MX records in no order that matters; empty when the name has none."""
        ...

    async def addresses(self, host: str, budget: "Budget | None" = None) -> Answer[IpAddress]:
        """Return AAAA and A records.

        One kind that fails temporarily is no failure while the other has records. Without records, the name does not
        exist only when both kinds say so: some servers deny the name when they only lack one kind (RFC 4074 section
        4.2).
        """
        ...

    async def names(self, address: IpAddress, budget: "Budget | None" = None) -> Answer[str]:
        """Return the names of an address (PTR: RFC 1035 section 3.5, RFC 3596 section 2.5). Whoever controls the
        address chose them: they prove nothing before they lead back to it."""
        ...

    async def txt(self, name: str, budget: "Budget | None" = None) -> Answer[bytes]:
        """Return TXT records, the strings of each joined."""
        ...
