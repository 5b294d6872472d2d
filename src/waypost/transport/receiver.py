"""Who receives: the organisation that runs the mail servers of a destination. A pure function of its MX hosts.

Thousands of domains are hosted by one organisation, and it judges our sources over all of them. The rule is cautious:
two organisations must never be taken for one, while one that is taken for two only learns a little slower. So only
providers that are known by name span several domains of hosts; any other receiver is the parent of its MX host's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_PROVIDERS = (
    ("google", (".google.com", ".googlemail.com")),
    ("microsoft", (".mail.protection.outlook.com", ".olc.protection.outlook.com", ".mx.microsoft")),
    ("yahoo", (".yahoodns.net",)),
    ("apple", (".mail.icloud.com",)),
    ("proofpoint", (".pphosted.com", ".ppe-hosted.com")),
    ("mimecast", (".mimecast.com",)),
    ("barracuda", (".barracudanetworks.com",)),
    ("fastmail", (".messagingengine.com",)),
    ("proton", (".protonmail.ch",)),
    ("zoho", (".zoho.com", ".zoho.eu", ".zoho.in")),
    ("yandex", (".yandex.net", ".yandex.ru")),
    ("mail.ru", (".mail.ru",)),
    ("comcast", (".comcast.net",)),
)
_SHORT_LABEL = 4  # letters: below a country's domain, such a label mostly is a registry's (co.uk, com.au, info.pl)
_NUMBERED = 4  # digits: the name of one machine among thousands that strangers rent (ec2-192-0-2-1, vps12345)


class Known(StrEnum):
    """How it is known who receives."""

    PROVIDER = "provider"  # by the list of providers
    HOSTS = "hosts"  # by the names of the MX hosts
    DOMAIN = "domain"  # the domain runs its servers itself
    ROUTE = "route"  # the operator said where to send
    ADDRESS = "address"  # an address literal


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who receives, as a name that stays the same while the same organisation runs the servers."""

    name: str
    known: Known

    def __str__(self) -> str:
        return self.name


def receiver_of(domain: str, hosts: Sequence[tuple[int, str]]) -> Receiver:
    """Return who receives for a domain with these MX hosts, each with its preference, in whatever order.

    The hosts of the best preference decide, since the others are mostly asked when those fail.
    """
    domain = domain.lower()
    if domain.startswith("["):
        return Receiver(domain, Known.ADDRESS)
    best = min((preference for preference, _ in hosts), default=0)
    found = {_receiver_of_host(domain, host.rstrip(".").lower()) for preference, host in hosts if preference == best}
    return min(found, key=lambda receiver: receiver.name, default=Receiver(domain, Known.DOMAIN))


def receiver_of_route(host: str) -> Receiver:
    """Return the receiver of a route: its host, which the operator named."""
    return Receiver(host.lower(), Known.ROUTE)


def _receiver_of_host(domain: str, host: str) -> Receiver:
    for name, suffixes in _PROVIDERS:
        if any(host.endswith(suffix) for suffix in suffixes):
            return Receiver(name, Known.PROVIDER)
    if host == domain or host.endswith("." + domain):
        return Receiver(domain, Known.DOMAIN)
    return Receiver(_parent(host), Known.HOSTS)


def _parent(host: str) -> str:
    """Return the name above a host, or the host's own where that may belong to a registry."""
    if host.replace(".", "").replace(":", "").isdigit() or ":" in host:
        return host  # an IP address in the place of a name
    first, _, parent = host.partition(".")
    labels = parent.split(".")
    of_a_registry = len(labels) == 2 and len(labels[1]) == 2 and len(labels[0]) <= _SHORT_LABEL
    if len(labels) < 2 or of_a_registry or sum(map(str.isdigit, first)) >= _NUMBERED:
        return host
    return parent
