"""One question to one server: what counts as its answer, what is ignored, and what ends the wait."""

import asyncio
import struct
from collections.abc import Iterable
from ipaddress import IPv6Address

import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dns.servers import ScriptedServer, answer

from waypost.dns.answers import MX, A, BadAnswer, read_answer
from waypost.dns.exchange import NameServer, NoReply, Query, exchange, read_reply
from waypost.dns.names import name_of
from waypost.dns.wire import Message, Type

NAME = name_of("a.test")
RECORD = "a.test. 60 IN A 192.0.2.1"
LIE = "a.test. 60 IN A 203.0.113.66"


async def ask(server: ScriptedServer, *, patience: float = 30) -> Message:
    place = NameServer(*server.place)
    return await exchange(NAME, Type.A, place, patience=patience, new_id=lambda: 4711)


def addresses(message: Message) -> list[str]:
    return [str(record) for record in read_answer(message, NAME, A).records]


async def test_a_query_asks_for_recursion_for_ad_and_for_large_answers() -> None:
    async with ScriptedServer(lambda query: [answer(query, RECORD)]) as server:
        assert addresses(await ask(server)) == ["192.0.2.1"]
        [query] = server.queries
    assert query.id == 4711
    assert query.flags & dns.flags.RD and query.flags & dns.flags.AD
    assert query.edns == 0 and query.payload == 1232 and not query.ednsflags & dns.flags.DO


async def test_every_question_has_a_port_of_its_own() -> None:
    async with ScriptedServer(lambda query: [answer(query, RECORD)]) as server:
        await asyncio.gather(*(ask(server) for _ in range(5)))
        assert len(set(server.ports)) > 1


async def test_what_does_not_match_is_ignored_and_the_real_answer_is_taken() -> None:
    def script(query: dns.message.Message) -> Iterable[dns.message.Message | bytes]:
        wrong_id = answer(query, LIE)
        wrong_id.id ^= 1
        wrong_name = answer(dns.message.make_query("b.test", "A", id=query.id), "b.test. 60 IN A 203.0.113.66")
        wrong_kind = answer(dns.message.make_query("a.test", "AAAA", id=query.id))
        no_answer = answer(query, LIE)
        no_answer.flags &= ~dns.flags.QR
        number = struct.pack("!H", query.id)
        return [
            b"",
            b"\0",
            number,
            number + b"\x80\0",
            number + b"\x80\0" + b"\xff" * 40,
            wrong_id,
            wrong_name,
            wrong_kind,
            no_answer,
            query.to_wire(),
            answer(query, RECORD),
        ]

    async with ScriptedServer(script) as server:
        assert addresses(await ask(server)) == ["192.0.2.1"]


async def test_an_answer_from_another_address_is_ignored() -> None:
    loop = asyncio.get_running_loop()
    liar, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.2", 0))
    silent = ScriptedServer(lambda query: [])
    async with silent:
        waiting = asyncio.create_task(ask(silent))
        await silent.asked.wait()
        liar.sendto(answer(silent.queries[0], LIE).to_wire(), ("127.0.0.1", silent.ports[0]))
        silent._datagrams.sendto(answer(silent.queries[0], RECORD).to_wire(), ("127.0.0.1", silent.ports[0]))
        assert addresses(await waiting) == ["192.0.2.1"]
    liar.close()


async def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    def truncated(query: dns.message.Message) -> list[bytes]:
        cut = answer(query, LIE, flags=int(dns.flags.TC)).to_wire()
        return [cut[:-7]]  # in the middle of a record

    async with ScriptedServer(truncated, lambda query: [answer(query, RECORD)]) as server:
        assert addresses(await ask(server)) == ["192.0.2.1"]
        assert server.tcp_queries == 1


async def test_a_server_that_truncates_for_ever_is_left() -> None:
    async with ScriptedServer(lambda query: [answer(query, flags=int(dns.flags.TC))]) as server:
        with pytest.raises(BadAnswer, match="truncated over TCP"):
            await ask(server)
        assert server.tcp_queries == 1


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ([], NoReply),
        ([b""], BadAnswer),
        ([b"\x12"], BadAnswer),
        ([answer(dns.message.make_query("b.test", "A"))], BadAnswer),
    ],
)
async def test_over_tcp_only_the_answer_counts(sent: list[bytes], error: type[Exception]) -> None:
    async with ScriptedServer(lambda query: [answer(query, flags=int(dns.flags.TC))], lambda _: sent) as server:
        with pytest.raises(error):
            await ask(server)


async def test_an_unreadable_answer_ends_the_wait() -> None:
    async with ScriptedServer(lambda query: [answer(query, RECORD).to_wire()[:-2]]) as server:
        with pytest.raises(BadAnswer, match="can't be read"):
            await ask(server)


async def test_a_server_older_than_edns_is_asked_without_it() -> None:
    def script(query: dns.message.Message) -> list[dns.message.Message]:
        if query.edns >= 0:
            refusal = dns.message.make_response(dns.message.make_query("a.test", "A", id=query.id))
            refusal.question.clear()
            refusal.set_rcode(dns.rcode.FORMERR)
            return [refusal]
        return [answer(query, RECORD)]

    async with ScriptedServer(script) as server:
        assert addresses(await ask(server)) == ["192.0.2.1"]


async def test_silence_is_no_reply() -> None:
    async with ScriptedServer(lambda query: []) as server:
        with pytest.raises(NoReply, match=r"no answer within 0\.05 s"):
            await ask(server, patience=0.05)


async def test_a_port_where_nobody_listens_is_no_reply_at_once() -> None:
    async with ScriptedServer(lambda query: []) as server:
        pass
    with pytest.raises(NoReply, match=r"can't be asked: Connection refused$"):
        await ask(server)


def test_servers_are_shown_with_their_port() -> None:
    assert str(NameServer(IPv6Address("2001:db8::1"), 53)) == "[2001:db8::1]:53"


@given(st.sampled_from(["a.test", "Xn--80AK6aa92e.test", "a" * 63 + ".b.c.test"]), st.integers(0, 65535), st.booleans())
def test_a_question_on_the_wire_is_what_the_library_would_write(text: str, number: int, edns: bool) -> None:
    name = dns.name.from_text(text.lower())
    flags = dns.flags.RD | dns.flags.AD
    payload = 1232 if edns else None
    known = dns.message.make_query(name, "MX", id=number, flags=flags, use_edns=0 if edns else None, payload=payload)
    assert Query.of(name_of(text), Type.MX, number, edns=edns).wire == known.to_wire()


@given(st.binary(max_size=200))
def test_no_rubbish_gets_through_or_crashes(junk: bytes) -> None:
    query = Query.of(NAME, Type.MX, 7)
    assert read_reply(query, junk) is None or junk.startswith(b"\0\7")


@given(st.integers(0), st.binary(min_size=1, max_size=6), st.integers(0, 200))
def test_an_answer_damaged_anywhere_is_read_ignored_or_refused(place: int, damage: bytes, cut: int) -> None:
    query = dns.message.make_query("a.test", "MX", id=7)
    whole = answer(query, "a.test. 60 IN CNAME b.test.", "b.test. 60 IN MX 5 mx.b.test.").to_wire()
    place %= len(whole)
    wire = (whole[:place] + damage + whole[place + len(damage) :])[: len(whole) - cut % 20]
    try:
        message = read_reply(Query.of(NAME, Type.MX, 7), wire)
        if message is not None:
            read_answer(message, NAME, MX)
    except BadAnswer as error:
        assert str(error)
