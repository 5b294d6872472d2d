"""DNS: the questions of the other rooms, and the answers with their AD bit (RFC 1035, RFC 2308, RFC 4035)."""

from waypost.dns.budget import QueryBudget
from waypost.dns.resolver import Answer, DnsError, DnsTemporary, IpAddress, Mx, NoSuchDomain, OverBudget, Resolver
from waypost.dns.stub import StubResolver
from waypost.dns.system import system_servers

__all__ = [
    "Answer",
    "DnsError",
    "DnsTemporary",
    "IpAddress",
    "Mx",
    "NoSuchDomain",
    "OverBudget",
    "QueryBudget",
    "Resolver",
    "StubResolver",
    "system_servers",
]
