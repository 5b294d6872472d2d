"""Servers without EDNS: those that drop such questions, refuse them, or spoil the answer (RFC 6891 section 7)."""

from collections.abc import Callable

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from tests.dns.servers import FakeClock, Script, ScriptedServer, answer, zone

from waypost.dns import DnsTemporary, StubResolver
from waypost.dns.edns import WITHOUT_EDNS, EdnsMemory
from waypost.dns.wire import Message

GOOD = zone({f"{name}.test MX": [f"{name}.test. 60 IN MX 5 mx.{name}.test."] for name in "abcdefgh"})
Reply = Callable[[dns.message.Message], list[dns.message.Message | bytes]]


def bare(query: dns.message.Message) -> dns.message.Message:
    """The query as an old server reads it: without its OPT record."""
    return dns.message.make_query(query.question[0].name, query.question[0].rdtype, id=query.id)


def older_than_edns(stumble: Reply) -> Script:
    """A server that stumbles over EDNS, and knows everything without it."""
    return lambda query: stumble(query) if query.edns >= 0 else list(GOOD(query))


def code(rcode: dns.rcode.Rcode, *, question: bool = True) -> Reply:
    def reply(query: dns.message.Message) -> list[dns.message.Message | bytes]:
        refusal = answer(bare(query), rcode=rcode)
        if not question:
            refusal.question.clear()
        return [refusal]

    return reply


def bad_version(query: dns.message.Message) -> list[dns.message.Message | bytes]:
    refusal = answer(query)
    refusal.set_rcode(dns.rcode.BADVERS)
    return [refusal]


def formerr_with_opt(query: dns.message.Message) -> list[dns.message.Message | bytes]:
    return [answer(query, rcode=dns.rcode.FORMERR)]


def spoilt(query: dns.message.Message) -> list[dns.message.Message | bytes]:
    return [answer(query).to_wire()[:-3]]


STUMBLES: dict[str, Reply] = {
    "FORMERR": code(dns.rcode.FORMERR),
    "FORMERR without the question": code(dns.rcode.FORMERR, question=False),
    "NOTIMP": code(dns.rcode.NOTIMP),
    "SERVFAIL": code(dns.rcode.SERVFAIL),
    "REFUSED": code(dns.rcode.REFUSED),
    "BADVERS": bad_version,
    "FORMERR with an OPT record": formerr_with_opt,
    "an OPT record cut short": spoilt,
}


@pytest.mark.parametrize("stumble", STUMBLES)
async def test_a_server_that_stumbles_over_edns_is_asked_without_it_and_that_is_remembered(stumble: str) -> None:
    clock = FakeClock()
    async with ScriptedServer(older_than_edns(STUMBLES[stumble])) as server:
        resolver = StubResolver([server.place], timeout=30, clock=clock)
        assert (await resolver.mx("a.test")).records
        assert [query.edns >= 0 for query in server.queries] == [True, False]
        assert (await resolver.mx("b.test")).records
        assert [query.edns >= 0 for query in server.queries] == [True, False, False]
        clock.now += WITHOUT_EDNS
        assert (await resolver.mx("c.test")).records
        assert [query.edns >= 0 for query in server.queries][3:] == [True, False], "after a while it is tried again"
        await resolver.close()


async def test_a_server_that_drops_edns_is_asked_without_it_before_giving_up() -> None:
    clock = FakeClock()
    async with ScriptedServer(older_than_edns(lambda query: [])) as server:
        resolver = StubResolver([server.place], timeout=0.1, clock=clock)
        assert (await resolver.mx("a.test")).records
        assert (await resolver.mx("b.test")).records
        assert [query.edns >= 0 for query in server.queries] == [True, False, False]
        await resolver.close()


@pytest.mark.parametrize("count", [2, 3, 5])
async def test_several_servers_that_drop_edns_are_no_reason_to_give_up(count: int) -> None:
    async with ScriptedServer(older_than_edns(lambda query: [])) as server:
        places = [server.place] * count
        resolver = StubResolver(places, timeout=0.4)
        assert (await resolver.mx("a.test")).records
        await resolver.close()


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_a_failure_of_a_server_that_knows_edns_is_about_the_name(rcode: dns.rcode.Rcode) -> None:
    async with ScriptedServer(lambda query: [answer(query, rcode=rcode)]) as server:
        resolver = StubResolver([server.place], timeout=30)
        with pytest.raises(DnsTemporary, match=dns.rcode.to_text(rcode)):
            await resolver.mx("a.test")
        assert len(server.queries) == 1
        await resolver.close()


async def test_a_long_answer_of_a_server_without_edns_comes_over_tcp() -> None:
    def udp(query: dns.message.Message) -> list[dns.message.Message | bytes]:
        return [] if query.edns >= 0 else [answer(query, flags=int(dns.flags.TC))]

    async with ScriptedServer(udp, GOOD) as server:
        resolver = StubResolver([server.place], timeout=0.3)
        assert (await resolver.mx("a.test")).records and server.tcp_queries == 1
        await resolver.close()


async def test_one_slow_name_does_not_change_how_a_server_is_asked_that_knows_edns() -> None:
    """A stranger's name may be slow on purpose: only when others are, too, is it the server."""

    def script(query: dns.message.Message) -> list[dns.message.Message | bytes]:
        slow = query.question[0].name.to_text()[0] in "bcd"
        return [] if slow and query.edns >= 0 else list(GOOD(query))

    async with ScriptedServer(script) as server:
        resolver = StubResolver([server.place], timeout=0.1)
        for name in "abcde":
            assert (await resolver.mx(f"{name}.test")).records
        asked = [(str(query.question[0].name)[0], query.edns >= 0) for query in server.queries]
        expected = [("a", True), ("b", True), ("b", False), ("c", True), ("c", False), ("d", True), ("d", False)]
        assert asked == [*expected, ("e", False)]
        await resolver.close()


def test_an_answer_with_edns_ends_the_doubt() -> None:
    memory = EdnsMemory(FakeClock())
    query = dns.message.make_query("a.test", "MX", use_edns=0)
    knows = Message(answer(query).to_wire())
    bare_answer = Message(answer(bare(query)).to_wire(), asked_with_edns=False)
    for said in (knows, bare_answer, bare_answer, knows, bare_answer, bare_answer):
        memory.heard("server", said)
        assert memory.useful("server")
    memory.heard("server", bare_answer)
    assert not memory.useful("server") and memory.useful("another")
