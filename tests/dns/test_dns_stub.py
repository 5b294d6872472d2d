"""The stub resolver: chains, memory, several servers, several askers; against real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, IPv6Address

import dns.flags
import dns.message
import dns.rcode
import pytest
from tests.dns.servers import SOA, FakeClock, Script, ScriptedServer, answer, zone

from waypost.dns import DnsTemporary, Mx, NoSuchDomain, StubResolver
from waypost.lab.names import LabNameServer

MakeResolver = Callable[..., StubResolver]
AD = int(dns.flags.AD)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def make(clock: FakeClock) -> AsyncIterator[MakeResolver]:
    made: list[StubResolver] = []

    def make(*servers: ScriptedServer, timeout: float = 30) -> StubResolver:
        made.append(StubResolver([server.place for server in servers], timeout=timeout, clock=clock))
        return made[-1]

    yield make
    for resolver in made:
        await resolver.close()


def texts(records: tuple[object, ...]) -> list[str]:
    return sorted(str(record) for record in records)


async def test_a_domain_is_looked_up_in_the_labs_name_server(clock: FakeClock) -> None:
    names = LabNameServer({"builder.test": "@ IN MX 10 mx\nmx IN A 127.0.0.12\nwww IN CNAME mx\ntalk IN TXT a b"})
    port = await names.start("127.0.0.1", 0)
    resolver = StubResolver([(IPv4Address("127.0.0.1"), port)], timeout=30, clock=clock)
    assert (await resolver.mx("Builder.test")).records == (Mx(10, "mx.builder.test"),)
    www = await resolver.addresses("www.builder.test")
    assert (www.name, texts(www.records)) == ("mx.builder.test", ["127.0.0.12"])
    assert (await resolver.txt("talk.builder.test")).records == (b"ab",)
    assert (await resolver.mx("mx.builder.test")).records == ()
    with pytest.raises(NoSuchDomain, match=r"MX of nowhere\.test: the name nowhere\.test does not exist"):
        await resolver.mx("nowhere.test")
    await resolver.close()
    await names.stop()


async def test_the_names_of_an_address_are_looked_up(make: MakeResolver) -> None:
    four, six = IPv4Address("192.0.2.7"), IPv6Address("2001:db8::7")
    records = {
        f"{four.reverse_pointer} PTR": [f"{four.reverse_pointer}. 60 IN PTR mx.a.test."],
        f"{six.reverse_pointer} PTR": [
            f"{six.reverse_pointer}. 60 IN PTR mx.a.test.",
            f"{six.reverse_pointer}. 60 IN PTR mail.a.test.",
        ],
    }
    async with ScriptedServer(zone(records)) as server:
        resolver = make(server)
        assert (await resolver.names(four)).records == ("mx.a.test",)
        assert texts((await resolver.names(six)).records) == ["mail.a.test", "mx.a.test"]


async def test_an_answer_is_remembered_until_its_time_is_over(make: MakeResolver, clock: FakeClock) -> None:
    async with ScriptedServer(zone({"a.test MX": ["a.test. 60 IN MX 5 mx.a.test."]})) as server:
        resolver = make(server)
        assert (await resolver.mx("a.test")).ttl == 60
        clock.now += 59
        assert (await resolver.mx("A.TEST")).ttl == 1
        assert len(server.queries) == 1
        clock.now += 1
        await resolver.mx("a.test")
        assert len(server.queries) == 2


async def test_absence_is_remembered_by_the_soa(make: MakeResolver, clock: FakeClock) -> None:
    async with ScriptedServer(zone({"a.test MX": []}, authority=(SOA,))) as server:
        resolver = make(server)
        for _ in range(2):
            assert (await resolver.mx("a.test")).records == ()
            with pytest.raises(NoSuchDomain):
                await resolver.mx("b.test")
        assert len(server.queries) == 2
        clock.now += 300
        assert (await resolver.mx("a.test")).records == ()
        assert len(server.queries) == 3


async def test_a_failure_is_temporary_and_remembered_for_some_seconds(make: MakeResolver, clock: FakeClock) -> None:
    async with ScriptedServer(lambda query: [answer(query, rcode=dns.rcode.SERVFAIL)]) as server:
        resolver = make(server)
        for _ in range(2):
            with pytest.raises(DnsTemporary, match="SERVFAIL"):
                await resolver.mx("a.test")
        assert len(server.queries) == 1, "the server that says so is not asked again at once"
        clock.now += 5
        server.udp = zone({"a.test MX": ["a.test. 60 IN MX 5 mx.a.test."]})
        assert (await resolver.mx("a.test")).records


async def test_an_answer_that_holds_for_no_time_is_asked_for_each_time(make: MakeResolver) -> None:
    async with ScriptedServer(zone({"a.test MX": ["a.test. 0 IN MX 5 mx.a.test."]})) as server:
        resolver = make(server)
        await resolver.mx("a.test")
        await resolver.mx("a.test")
        assert len(server.queries) == 2


async def test_a_chain_that_leaves_an_answer_is_asked_on(make: MakeResolver) -> None:
    records = {
        "a.test MX": ["a.test. 60 IN CNAME b.test."],
        "b.test MX": ["B.test. 30 IN CNAME c.test.", "c.test. 90 IN MX 5 mx.c.test."],
    }
    async with ScriptedServer(zone(records, flags=AD)) as server:
        found = await make(server).mx("a.test")
        assert (found.name, found.records, found.ttl) == ("c.test", (Mx(5, "mx.c.test"),), 30)
        assert found.authenticated


async def test_an_answer_is_authenticated_only_if_every_step_was(make: MakeResolver) -> None:
    signed = zone({"a.test MX": ["a.test. 60 IN CNAME b.test."]}, flags=AD)
    plain = zone({"b.test MX": ["b.test. 60 IN MX 5 mx.b.test."]})

    def script(query: dns.message.Message) -> list[dns.message.Message | bytes]:
        return list((signed if str(query.question[0].name) == "a.test." else plain)(query))

    async with ScriptedServer(script) as server:
        assert not (await make(server).mx("a.test")).authenticated


async def test_nxdomain_at_the_end_of_a_chain_is_nxdomain(make: MakeResolver) -> None:
    async with ScriptedServer(zone({"a.test MX": ["a.test. 60 IN CNAME b.test."]})) as server:
        with pytest.raises(NoSuchDomain, match=r"MX of a\.test: the name b\.test does not exist"):
            await make(server).mx("a.test")


async def test_circles_and_endless_chains_are_temporary(make: MakeResolver) -> None:
    circle = {"a.test MX": ["a.test. 60 IN CNAME b.test."], "b.test MX": ["b.test. 60 IN CNAME a.test."]}
    chain = {f"n{number}.test MX": [f"n{number}.test. 60 IN CNAME n{number + 1}.test."] for number in range(30)}
    async with ScriptedServer(zone(circle | chain)) as server:
        resolver = make(server)
        for name in ("a.test", "n0.test"):
            with pytest.raises(DnsTemporary, match="form a loop"):
                await resolver.mx(name)
        assert len(server.queries) == 2 + 9


async def test_both_kinds_of_address_are_asked_for_at_the_same_time(make: MakeResolver) -> None:
    held: list[dns.message.Message] = []
    both = asyncio.Event()
    lines = {28: "h.test. 60 IN AAAA 2001:db8::1", 1: "h.test. 40 IN A 192.0.2.1"}

    def script(query: dns.message.Message) -> list[dns.message.Message]:
        held.append(query)
        if len(held) == 2:
            both.set()
        return []

    async with ScriptedServer(script) as server:
        asking = asyncio.create_task(make(server).addresses("h.test"))
        await both.wait()
        for query, port in zip(held, server.ports, strict=True):
            wire = answer(query, lines[query.question[0].rdtype]).to_wire()
            server._datagrams.sendto(wire, ("127.0.0.1", port))
        found = await asking
        assert texts(found.records) == ["192.0.2.1", "2001:db8::1"] and found.ttl == 40


def by_kind(a: Script, aaaa: Script) -> Script:
    return lambda query: (a if query.question[0].rdtype == 1 else aaaa)(query)


def servfail(query: dns.message.Message) -> list[dns.message.Message]:
    return [answer(query, rcode=dns.rcode.SERVFAIL)]


def nothing(query: dns.message.Message) -> list[dns.message.Message]:
    return [answer(query, authority=(SOA,))]


GOOD = zone({"h.test A": ["h.test. 60 IN A 192.0.2.1"]})
NOWHERE = zone({})


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (by_kind(GOOD, servfail), ["192.0.2.1"]),
        (by_kind(GOOD, NOWHERE), ["192.0.2.1"]),
        (by_kind(GOOD, nothing), ["192.0.2.1"]),
        (by_kind(nothing, nothing), []),
        (by_kind(nothing, servfail), DnsTemporary),
        (by_kind(servfail, servfail), DnsTemporary),
        (by_kind(NOWHERE, NOWHERE), NoSuchDomain),
        (by_kind(servfail, NOWHERE), DnsTemporary),
        (by_kind(NOWHERE, nothing), []),
    ],
)
async def test_one_kind_of_address_is_enough(
    make: MakeResolver, script: Script, expected: list[str] | type[Exception]
) -> None:
    async with ScriptedServer(script) as server:
        resolver = make(server)
        if isinstance(expected, list):
            assert texts((await resolver.addresses("h.test")).records) == expected
        else:
            with pytest.raises(expected):
                await resolver.addresses("h.test")


async def test_the_next_server_is_asked_and_the_silent_one_goes_to_the_back(make: MakeResolver) -> None:
    good = zone({"a.test MX": ["a.test. 60 IN MX 5 mx.a.test."], "b.test MX": ["b.test. 60 IN MX 5 mx.b.test."]})
    async with ScriptedServer(lambda query: []) as silent, ScriptedServer(good) as server:
        resolver = make(silent, server, timeout=0.1)
        assert (await resolver.mx("a.test")).records
        assert len(silent.queries) == 1
        assert (await resolver.mx("b.test")).records
        assert len(silent.queries) == 1, "the server that answers is asked first now"


async def test_a_server_that_refuses_is_no_reason_to_fail(make: MakeResolver) -> None:
    good = zone({"a.test MX": ["a.test. 60 IN MX 5 mx.a.test."]})
    refusing = ScriptedServer(lambda query: [answer(query, rcode=dns.rcode.REFUSED)])
    async with refusing, ScriptedServer(good) as server:
        assert (await make(refusing, server).mx("a.test")).records


async def test_silence_is_asked_once_more_and_then_temporary(make: MakeResolver) -> None:
    async with ScriptedServer(lambda query: []) as server:
        with pytest.raises(DnsTemporary, match=r"MX of a\.test: 127\.0\.0\.1:\d+: no answer within 0\.05 s"):
            await make(server, timeout=0.05).mx("a.test")
        assert len(server.queries) == 2


async def test_many_silent_servers_do_not_take_for_ever(make: MakeResolver) -> None:
    async with ScriptedServer(lambda query: []) as server:
        resolver = make(*[server] * 100, timeout=0.02)
        with pytest.raises(DnsTemporary, match=r"no answer within 0\.08 s"):
            await resolver.mx("a.test")


async def test_a_question_on_the_wire_is_not_asked_twice(make: MakeResolver) -> None:
    async with ScriptedServer(lambda query: []) as server:
        resolver = make(server)
        asking = [asyncio.create_task(resolver.mx(name)) for name in ("a.test", "A.test", "a.test.")]
        await server.asked.wait()
        asking[0].cancel()  # whoever asked first gives up: the others still get their answer
        [query] = server.queries
        wire = answer(query, "a.test. 60 IN MX 5 mx.a.test.").to_wire()
        server._datagrams.sendto(wire, ("127.0.0.1", server.ports[0]))
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert [result.records for result in results[1:] if not isinstance(result, BaseException)] == [
            (Mx(5, "mx.a.test"),)
        ] * 2


async def test_closing_answers_whoever_waits(make: MakeResolver) -> None:
    async with ScriptedServer(lambda query: []) as server:
        resolver = make(server)
        asking = asyncio.create_task(resolver.mx("a.test"))
        await server.asked.wait()
        await resolver.close()
        for question in (asking, resolver.mx("b.test")):
            with pytest.raises(DnsTemporary, match="closed"):
                await question


@pytest.mark.parametrize(
    "name", ["", ".", "@", "a..b", "x" * 64 + ".test", "b\N{LATIN SMALL LETTER U WITH DIAERESIS}.test"]
)
async def test_what_can_be_no_name_is_not_asked_for(make: MakeResolver, name: str) -> None:
    async with ScriptedServer(lambda query: []) as server:
        with pytest.raises(NoSuchDomain, match="can't be a name"):
            await make(server).mx(name)
        assert not server.queries


def test_without_servers_there_is_no_resolver() -> None:
    with pytest.raises(ValueError, match="no name server"):
        StubResolver([], timeout=1)
