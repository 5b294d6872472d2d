"""Answers' octets: what is read agrees with what a library reads, and whatever a stranger sends costs little."""

import asyncio

import dns.exception
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dns.bombs import BOMBS, MX, NAME, TXT, cname_chain, message, mx, pointing_mx, record, whole_mx, wire
from tests.dns.servers import ScriptedServer, answer

from waypost.dns import Mx, StubResolver
from waypost.dns.answers import MX as MX_KIND
from waypost.dns.answers import TXT as TXT_KIND
from waypost.dns.answers import BadAnswer, read_answer
from waypost.dns.wire import MOST_MESSAGE_OCTETS, MOST_RECORDS, MOST_STEPS, MalformedAnswer, Message


@pytest.mark.parametrize("bomb", BOMBS)
def test_whatever_an_answer_holds_the_work_for_it_is_bounded(bomb: str) -> None:
    assert len(BOMBS[bomb]) <= 65_535
    try:
        found = Message(BOMBS[bomb])
    except MalformedAnswer as error:
        assert str(error)
        return
    assert len(found.answers) + len(found.authorities) <= MOST_RECORDS
    for kind in (MX_KIND, TXT_KIND):
        try:
            step = read_answer(found, NAME, kind)
        except BadAnswer:
            continue
        assert len(step.records) <= MOST_RECORDS
    assert found.steps <= MOST_STEPS + 4


def test_of_thousands_of_mail_servers_the_first_are_read() -> None:
    found = Message(message(pointing_mx()))
    step = read_answer(found, NAME, MX_KIND)
    assert len(found.answers) == MOST_RECORDS and not step.complete
    assert 2 <= len(step.records) <= 27 and all(isinstance(record, Mx) for record in step.records)


def test_an_answer_that_is_too_long_is_read_as_far_as_it_goes() -> None:
    octets = message(whole_mx())
    assert len(octets) > MOST_MESSAGE_OCTETS
    step = read_answer(Message(octets), NAME, MX_KIND)
    assert step.records and not step.complete
    short = message(whole_mx(20))
    assert read_answer(Message(short), NAME, MX_KIND).complete
    with pytest.raises(MalformedAnswer, match="runs past the end"):
        Message(short[:-1])


def test_what_follows_the_answers_does_not_spoil_them() -> None:
    """Neither a great many additions nor a name in them that can't be read."""
    step = read_answer(Message(BOMBS["additions"]), NAME, MX_KIND)
    assert step.records == (Mx(10, "mx.test"),) and step.complete


def test_an_answer_of_which_only_other_records_were_read_is_of_no_use() -> None:
    others = [record(TXT, b"\1x")] * MOST_RECORDS
    with pytest.raises(BadAnswer, match="more records than are read"):
        read_answer(Message(message([*others, mx(wire(b"mx", b"test"))])), NAME, MX_KIND)
    assert read_answer(Message(message([*others[1:], mx(wire(b"mx", b"test"))])), NAME, MX_KIND).complete


def test_a_chain_of_aliases_is_followed_no_further_than_eight() -> None:
    with pytest.raises(BadAnswer, match="more than 8"):
        read_answer(Message(message(cname_chain())), NAME, MX_KIND)


def test_the_upper_bits_of_the_response_code_are_read() -> None:
    bad_version = b"\0" + b"\0\x29\x04\xd0" + b"\x01\0\0\0" + b"\0\0"
    found = Message(message([], None, [bad_version]))
    assert found.edns and found.rcode == 16
    with pytest.raises(BadAnswer, match="BADVERS"):
        read_answer(found, NAME, MX_KIND)


def test_a_record_that_is_too_short_or_too_long_makes_the_answer_unreadable() -> None:
    for data in (b"", b"\0", b"\0\1", b"\0\1\0\0", b"\0\1\1a"):
        with pytest.raises((BadAnswer, MalformedAnswer)):
            read_answer(Message(message([record(MX, data)])), NAME, MX_KIND)
    for data in (b"", b"\2a"):
        with pytest.raises(BadAnswer):
            read_answer(Message(message([record(TXT, data)])), NAME, TXT_KIND)


LINES = st.lists(
    st.sampled_from(
        [
            "bomb.test. 60 IN MX 5 mx.bomb.test.",
            "bomb.test. 9 IN MX 5 a.Very.long.name.bomb.test.",
            "bomb.test. 60 IN MX 0 .",
            'bomb.test. 60 IN TXT "a" "b"',
            "other.test. 60 IN MX 7 bomb.test.",
            "x.bomb.test. 60 IN CNAME bomb.test.",
            "bomb.test. 60 IN A 192.0.2.1",
        ]
    ),
    max_size=8,
)


@given(LINES, LINES)
def test_answers_read_as_a_library_reads_them(answers: list[str], authorities: list[str]) -> None:
    query = dns.message.make_query("bomb.test", "MX", id=0)
    whole = answer(query, *answers, authority=tuple(authorities)).to_wire()
    found, known = Message(whole), dns.message.from_wire(whole)
    for ours, theirs in ((found.answers, known.answer), (found.authorities, known.authority)):
        expected = sorted((one.name.canonicalize().to_wire(), int(one.rdtype)) for one in theirs for _ in one)
        assert sorted({(one.name, one.type) for one in ours}) == sorted(set(expected))
    assert (found.rcode, found.edns) == (known.rcode(), known.edns >= 0)


@given(st.binary(max_size=300), st.integers(0, 12))
def test_rubbish_is_read_or_refused_and_ends(junk: bytes, kept: int) -> None:
    octets = message([mx(wire(b"mx", b"test"))])[: 12 + kept * 3] + junk
    try:
        found = Message(octets)
        read_answer(found, NAME, MX_KIND)
    except (MalformedAnswer, BadAnswer) as error:
        assert str(error)


async def test_while_bombs_are_read_others_have_their_answers() -> None:
    """Each bomb over TCP at once; a neighbour's question is answered before the last of them."""
    truncated = message([])[:2] + b"\x83\x80" + message([])[4:]
    order: list[str] = []

    def stranger(query: dns.message.Message) -> list[dns.message.Message | bytes]:
        number = query.id.to_bytes(2)
        if query.question[0].name.to_text() == "bomb.test.":
            return [number + truncated[2:-4] + query.question[0].rdtype.to_bytes(2) + b"\0\1"]
        return [answer(query, "near.test. 0 IN MX 5 mx.near.test.")]

    def bomb(query: dns.message.Message) -> list[bytes]:
        return [query.id.to_bytes(2) + BOMBS["pointing"][2:]]

    async with ScriptedServer(stranger, bomb) as server:
        resolver = StubResolver([server.place], timeout=30)

        async def ask(name: str) -> None:
            found = await resolver.mx(name)
            assert found.records
            order.append(name)

        await asyncio.gather(*(ask("bomb.test") for _ in range(3)), ask("near.test"))
        found = await resolver.mx("bomb.test")
        await resolver.close()
    assert order[0] == "near.test"
    assert not found.complete and len(found.records) <= MOST_RECORDS


def test_what_compression_hides_weighs_what_it_takes_in_memory() -> None:
    step = read_answer(Message(message(pointing_mx(60))), NAME, MX_KIND)
    assert sum(map(MX_KIND.weight, step.records)) > sum(len(record.host) for record in step.records)


def test_a_record_given_twice_is_one_and_the_shortest_time_holds() -> None:
    twice = [mx(wire(b"mx", b"test")), record(MX, b"\0\x0a" + wire(b"MX", b"test"), ttl=5)]
    step = read_answer(Message(message(twice)), NAME, MX_KIND)
    assert (step.records, step.ttl) == ((Mx(10, "mx.test"),), 5)


def test_an_absurd_time_is_none() -> None:
    absurd = record(MX, b"\0\x0a" + wire(b"mx", b"test"), ttl=0x80000001)
    assert read_answer(Message(message([absurd])), NAME, MX_KIND).ttl == 0


def test_two_questions_or_half_a_header_are_no_answer() -> None:
    octets = message([mx(wire(b"mx", b"test"))])
    with pytest.raises(MalformedAnswer, match="several questions"):
        Message(octets[:4] + b"\0\2" + octets[6:])
    with pytest.raises(MalformedAnswer, match="shorter than a header"):
        Message(octets[:11])
