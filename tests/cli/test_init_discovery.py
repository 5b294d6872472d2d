"""What a machine and DNS say about a new host, in words."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, cast

import pytest

from waypost.cli.init.discovery import Looked, Machine, findings, looked, propose_domain, propose_hostname
from waypost.cli.init.records import record_lines, records
from waypost.dns import Answer, DnsError, DnsTemporary, NoSuchDomain

PUBLIC = ip_address("198.41.0.4")
OTHER = ip_address("198.41.0.5")
PRIVATE = ip_address("192.168.1.5")


@pytest.mark.parametrize(
    ("name", "proposal"),
    [
        ("mx.example.org", "mx.example.org"),
        ("MX.Example.ORG", "mx.example.org"),
        ("localhost", None),
        ("localhost.localdomain", None),
        ("builder", None),
        ("nas.local", None),
        ("vm-1.c.project.internal", None),
        ("1.0.0.127.in-addr.arpa", None),
        ("", None),
    ],
)
def test_a_name_that_only_this_network_knows_is_not_proposed(name: str, proposal: str | None) -> None:
    assert propose_hostname(Machine(name, ())) == proposal


def test_the_domain_that_is_proposed_is_the_one_above_the_host() -> None:
    assert propose_domain("mx.example.org") == "example.org"
    assert propose_domain("example.org") == "example.org"


class Names:
    """A resolver over a table; a name that is not in it does not exist."""

    def __init__(self, forward: Mapping[str, Any], reverse: Mapping[str, Any]) -> None:
        self._forward, self._reverse = forward, reverse

    async def addresses(self, host: str) -> Answer[Any]:
        return self._answer(host, self._forward)

    async def names(self, address: Any) -> Answer[Any]:
        return self._answer(str(address), self._reverse)

    def _answer(self, asked: str, table: Mapping[str, Any]) -> Answer[Any]:
        found = table.get(asked, NoSuchDomain(f"{asked} does not exist"))
        if isinstance(found, DnsError):
            raise found
        return Answer(asked, tuple(found), False, 60)


async def found(forward: Mapping[str, Any], reverse: Mapping[str, Any], *addresses: Any) -> list[str]:
    dns = await looked(cast(Any, Names(forward, reverse)), "mx.example.org", addresses)
    return findings("mx.example.org", Machine("mx", addresses), dns)


async def test_names_and_addresses_that_lead_to_each_other_are_right() -> None:
    lines = await found({"mx.example.org": [PUBLIC]}, {str(PUBLIC): ["MX.example.org"]}, PUBLIC)
    assert lines == [
        f"forward: mx.example.org leads to {PUBLIC}: right",
        f"reverse: {PUBLIC} leads back to mx.example.org: right",
    ]


async def test_what_is_missing_is_told_with_what_to_do() -> None:
    lines = await found({}, {str(PUBLIC): ["customer-4.provider.example"]}, PUBLIC)
    assert lines == [
        "forward: mx.example.org has no address in DNS yet: publish the records below",
        f"reverse: {PUBLIC} leads to customer-4.provider.example: let its owner set the PTR record to mx.example.org",
    ]
    lines = await found({"mx.example.org": [OTHER]}, {}, PUBLIC)
    assert lines[0] == f"forward: mx.example.org leads to {OTHER}, which is not an address of this machine"
    assert lines[1].startswith(f"reverse: {PUBLIC} has no name") and lines[2].startswith(f"reverse: {OTHER} has no")


async def test_behind_a_router_the_public_address_is_looked_at_through_the_name() -> None:
    lines = await found({"mx.example.org": [PUBLIC]}, {str(PUBLIC): ["mx.example.org"]}, PRIVATE)
    assert lines == [
        f"this machine has private addresses only ({PRIVATE}): publish the public one that leads to it",
        f"forward: mx.example.org leads to {PUBLIC}",
        f"reverse: {PUBLIC} leads back to mx.example.org: right",
    ]


async def test_what_could_not_be_checked_is_said() -> None:
    trouble = DnsTemporary("A of mx.example.org: no answer within 12 s")
    assert await found({"mx.example.org": trouble}, {str(PUBLIC): trouble}, PUBLIC) == [
        "not everything could be checked: A of mx.example.org: no answer within 12 s"
    ]
    assert findings("mx.example.org", Machine("mx", ()), Looked(trouble="no network")) == [
        "not everything could be checked: no network"
    ]


def test_the_records_have_the_public_addresses_where_they_are_known() -> None:
    lines = record_lines(records("mx.example.org", ["example.org"], [PUBLIC, ip_address("2001:500::1")]))
    assert [" ".join(line.split()) for line in lines] == [
        f"mx.example.org. A {PUBLIC}",
        "mx.example.org. AAAA 2001:500::1",
        'mx.example.org. TXT "v=spf1 a -all"',
        "example.org. MX 10 mx.example.org.",
        'example.org. TXT "v=spf1 mx -all"',
    ]
