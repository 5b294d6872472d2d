"""The router: the operator's routes first, then literals, then the MX of the domain."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from waypost.config.settings import EgressSource, Outbound, Route, TlsPolicy
from waypost.dns import Answer, DnsError, DnsTemporary, IpAddress, Mx, NoSuchDomain, QueryBudget, Resolver, StubResolver
from waypost.lab.names import LabNameServer
from waypost.transport.next_hops import NextHops, NoNextHop
from waypost.transport.router import Router

SECRET = Path("/etc/waypost/secret")


class Names(Resolver):
    """DNS as a table; what is not in it does not exist, and what it raises is raised."""

    def __init__(self, mx: Mapping[str, Any], hosts: Mapping[str, Any]) -> None:
        self._mx = mx
        self._hosts = hosts
        self.asked: list[str] = []

    async def mx(self, domain: str, budget: QueryBudget | None = None) -> Answer[Mx]:
        return self._answer(domain, self._mx)

    async def addresses(self, host: str, budget: QueryBudget | None = None) -> Answer[IpAddress]:
        answer: Answer[str] = self._answer(host, self._hosts)
        return Answer(host, tuple(map(ip_address, answer.records)), False, 60)

    async def txt(self, name: str, budget: QueryBudget | None = None) -> Answer[bytes]:
        raise AssertionError("the router asks for no TXT")

    def _answer(self, name: str, table: Mapping[str, Any]) -> Answer[Any]:
        self.asked.append(name)
        found = table.get(name, NoSuchDomain(name))
        if isinstance(found, DnsError):
            raise found
        return Answer(name, tuple(found), False, 60)


NAMES = {
    "example.test": [Mx(20, "mx2.example.test"), Mx(10, "mx1.example.test")],
    "plain.test": [],
    "nothing.test": [],
    "silent.test": DnsTemporary("MX of silent.test: no answer"),
    "null.test": [Mx(0, "")],
    "inside.test": [Mx(10, "inside.test")],
    "xn--bcher-kva.test": [Mx(10, "mx1.example.test")],
    "numbers.test": [Mx(10, "1.1.1.7")],
}
HOSTS = {
    "mx1.example.test": ["1.1.1.1"],
    "mx2.example.test": ["1.1.1.2"],
    "plain.test": ["1.1.1.3"],
    "nothing.test": [],
    "inside.test": ["10.0.0.1"],
    "smart.test": ["2600::1", "10.0.0.2"],
    "empty.test": [],
    "flaky.test": DnsTemporary("no answer"),
}


def router(routes: Sequence[Route] = (), outbound: Outbound | None = None, names: Resolver | None = None) -> Router:
    return Router(
        routes=routes,
        outbound=outbound or Outbound(),
        resolver=names or Names(NAMES, HOSTS),
        hostname="us.test",
        own_addresses=[ip_address("9.9.9.9")],
        passwords={SECRET: "sesame"},
        shuffle=lambda items: None,
    )


def shown(way: NextHops) -> list[str]:
    return [str(server) for server in way.servers]


async def test_the_mx_of_a_domain_is_the_usual_way() -> None:
    way = await router().way("example.test")
    assert shown(way) == ["mx1.example.test 1.1.1.1:25", "mx2.example.test 1.1.1.2:25"]
    assert (way.tls, way.lmtp, way.username, way.password) == (TlsPolicy.OPPORTUNISTIC, False, None, None)


async def test_a_way_knows_that_dns_has_kept_a_server_back() -> None:
    records = [Mx(10, "a.test"), Mx(20, "b.test")]
    for trouble, whole in ((DnsTemporary("A of b.test: no answer"), False), (NoSuchDomain("b.test"), True)):
        names = Names({"x.test": records}, {"a.test": ["1.1.1.1"], "b.test": trouble})
        assert (await router(names=names).way("x.test")).whole is whole


async def test_names_are_asked_for_in_their_key_form() -> None:
    assert await router().way("EXAMPLE.test") == await router().way("example.test")
    assert shown(await router().way("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.test"))


async def test_without_mx_the_domain_is_its_own_server() -> None:
    assert shown(await router().way("plain.test")) == ["plain.test 1.1.1.3:25"]


async def test_an_mx_that_is_an_address_is_gone_to_without_asking_for_it() -> None:
    names = Names(NAMES, HOSTS)
    [server] = (await router(names=names).way("numbers.test")).servers
    assert (str(server), names.asked) == ("1.1.1.7:25", ["numbers.test"])
    assert server.note is not None and "1.1.1.7" in server.note


async def test_a_domain_that_looks_like_an_address_is_none() -> None:
    names = Names({"1.1.1.7": []}, {"1.1.1.7": []})
    with pytest.raises(NoNextHop) as caught:
        await router(names=names).way("1.1.1.7")
    assert (caught.value.status, names.asked) == ("5.1.2", ["1.1.1.7", "1.1.1.7"])


async def test_a_domain_with_more_servers_than_are_looked_at_is_tried_again() -> None:
    names = Names({"x.test": [Mx(n, f"mx{n}.test") for n in range(21)]}, {})
    with pytest.raises(NoNextHop) as caught:
        await router(names=names).way("x.test")
    assert (caught.value.status, caught.value.permanent) == ("4.4.4", False)


async def test_laboratories_use_another_port_and_private_networks() -> None:
    laboratory = Outbound(port=2525, allow_private_addresses=True)
    assert shown(await router(outbound=laboratory).way("inside.test")) == ["inside.test 10.0.0.1:2525"]


@pytest.mark.parametrize(
    ("destination", "status", "permanent"),
    [
        ("unknown.test", "5.1.2", True),
        ("nothing.test", "5.1.2", True),
        ("null.test", "5.1.10", True),
        ("silent.test", "4.4.3", False),
        ("inside.test", "5.4.4", True),
        ("[10.0.0.1]", "5.4.4", True),
        ("[ipv6:::1]", "5.4.4", True),
        ("[9.9.9.9]", "5.4.6", True),
        ("[x400:a]", "5.1.2", True),
        ("[local", "5.1.2", True),
        ("", "5.1.2", True),
    ],
)
async def test_where_there_is_no_way_the_reason_has_its_status(destination: str, status: str, permanent: bool) -> None:
    with pytest.raises(NoNextHop) as caught:
        await router().way(destination)
    assert (caught.value.status, caught.value.permanent) == (status, permanent)


async def test_an_address_literal_is_gone_to_directly() -> None:
    names = Names({}, {})
    assert shown(await router(names=names).way("[1.1.1.9]")) == ["1.1.1.9:25"]
    assert shown(await router(names=names).way("[IPv6:2600::9]")) == ["[2600::9]:25"]
    assert names.asked == []


ROUTES = [
    Route(("*",), "smart.test", 587, tls=TlsPolicy.REQUIRED, username="us", password_file=SECRET),
    Route((".example.test",), "[10.0.0.5]", 24, lmtp=True, tls=TlsPolicy.NONE),
    Route((".deep.example.test", "B\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.test"), "[IPv6:fd00::1]"),
    Route(("one.deep.example.test", "[192.0.2.9]"), "[fd00::2]", tls=TlsPolicy.IMPLICIT),
]


@pytest.mark.parametrize(
    ("destination", "first"),
    [
        ("one.deep.example.test", "[fd00::2]:25"),
        ("two.deep.example.test", "[fd00::1]:25"),
        ("xn--bcher-kva.test", "[fd00::1]:25"),
        ("a.example.test", "10.0.0.5:24"),
        ("a.b.example.test", "10.0.0.5:24"),
        ("example.test", "smart.test [2600::1]:587"),
        ("notexample.test", "smart.test [2600::1]:587"),
        ("[192.0.2.9]", "[fd00::2]:25"),
        ("[1.1.1.1]", "smart.test [2600::1]:587"),
    ],
)
async def test_the_nearest_route_is_taken(destination: str, first: str) -> None:
    assert shown(await router(ROUTES).way(destination))[0] == first


async def test_a_smart_host_is_logged_in_to_and_may_be_private() -> None:
    way = await router(ROUTES).way("anywhere.test")
    assert shown(way) == ["smart.test [2600::1]:587", "smart.test 10.0.0.2:587"]
    assert (way.tls, way.username, way.password) == (TlsPolicy.REQUIRED, "us", "sesame")
    assert way.shared and not (await router().way("example.test")).shared


async def test_a_route_may_speak_lmtp() -> None:
    way = await router(ROUTES).way("a.example.test")
    assert (way.lmtp, way.tls, way.username) == (True, TlsPolicy.NONE, None)


@pytest.mark.parametrize(
    ("route", "status"),
    [
        (Route(("*",), "gone.test"), "4.3.5"),
        (Route(("*",), "empty.test"), "4.3.5"),
        (Route(("*",), "[1.2.3]"), "4.3.5"),
        (Route(("*",), "flaky.test"), "4.4.3"),
        (Route(("*",), "smart.test", username="us"), "4.3.5"),
        (Route(("*",), "smart.test", username="us", password_file=Path("/other")), "4.3.5"),
    ],
)
async def test_an_operators_mistake_returns_no_mail(route: Route, status: str) -> None:
    with pytest.raises(NoNextHop) as caught:
        await router([route]).way("example.test")
    assert (caught.value.status, caught.value.permanent) == (status, False)


async def test_the_road_through_real_dns() -> None:
    zones = {
        "builder.test": "@ IN MX 10 mx\n@ IN MX 20 old\nmx IN A 127.0.0.12\nold IN CNAME mx2\nmx2 IN A 127.0.0.13",
        "nomail.test": "@ IN MX 0 .",
        "web.test": "www IN CNAME mx.builder.test.",
    }
    names = LabNameServer(zones)
    port = await names.start("127.0.0.1", 0)
    resolver = StubResolver([(IPv4Address("127.0.0.1"), port)], timeout=30)
    laboratory = router(outbound=Outbound(allow_private_addresses=True), names=resolver)
    assert shown(await laboratory.way("builder.test")) == [
        "mx.builder.test 127.0.0.12:25",
        "old.builder.test 127.0.0.13:25",
    ]
    assert shown(await laboratory.way("www.web.test")) == ["www.web.test 127.0.0.12:25"]
    for destination, status in (("nomail.test", "5.1.10"), ("nowhere.test", "5.1.2")):
        with pytest.raises(NoNextHop) as caught:
            await laboratory.way(destination)
        assert caught.value.status == status
    await resolver.close()
    await names.stop()


# -- sources and receivers -------------------------------------------------------------------------------------


def sources(*addresses: str) -> Outbound:
    return Outbound(sources=tuple(EgressSource(ip_address(address)) for address in addresses))


BOTH = Names(
    {"both.test": [Mx(10, "mx.both.test")], "six.test": [Mx(10, "mx.six.test")]},
    {
        "mx.both.test": ["2600::5", "1.1.1.5"],
        "mx.six.test": ["2600::6"],
        "smart.test": ["2600::1"],
    },
)


async def test_servers_that_no_source_reaches_are_left_out_and_do_not_count_as_asked() -> None:
    way = await router(outbound=sources("192.0.2.1"), names=BOTH).way("both.test")
    assert [str(server.address) for server in way.servers] == ["1.1.1.5"] and not way.whole
    way = await router(outbound=sources("192.0.2.1", "2001:db8::1"), names=BOTH).way("both.test")
    assert len(way.servers) == 2 and way.whole
    assert len((await router(names=BOTH).way("both.test")).servers) == 2, "without sources the system chooses"


@pytest.mark.parametrize("destination", ["six.test", "[IPv6:2600::6]", "routed.test"])
async def test_a_destination_that_no_source_reaches_waits_for_the_operator(destination: str) -> None:
    routes = (Route(("routed.test",), "smart.test"),)
    with pytest.raises(NoNextHop, match=r"no source \(outbound.source\) has an IPv6 address") as told:
        await router(routes, sources("192.0.2.1"), BOTH).way(destination)
    assert (told.value.status, told.value.permanent) == ("4.3.5", False)


@pytest.mark.parametrize(
    ("destination", "receiver"),
    [
        ("example.test", "example.test"),
        ("plain.test", "plain.test"),
        ("xn--bcher-kva.test", "example.test"),
        ("numbers.test", "1.1.1.7"),
        ("[1.1.1.9]", "[1.1.1.9]"),
        ("routed.test", "smart.test"),
    ],
)
async def test_the_way_says_who_receives(destination: str, receiver: str) -> None:
    way = await router((Route(("routed.test",), "smart.test"),)).way(destination)
    assert way.receiver is not None and way.receiver.name == receiver
