"""Every answer of DNS to MX, A and AAAA, in all combinations: mail waits unless all that could give an address say that
there is none (RFC 5321 section 5.1, RFC 4074 section 4.2).
"""

import itertools
import struct
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from ipaddress import ip_address
from typing import Any

import pytest
from tests.dns.bombs import HEAD, record, wire

from waypost.config.settings import Outbound
from waypost.dns import StubResolver
from waypost.dns.answers import BadAnswer
from waypost.dns.exchange import NoReply, Unreadable
from waypost.dns.names import Name, name_of
from waypost.dns.wire import Message, Type
from waypost.transport.next_hops import NextHops, NoNextHop
from waypost.transport.router import Router


class Says(Enum):
    """What a name server does with a question."""

    ANSWER = auto()
    NODATA = auto()
    NXDOMAIN = auto()
    SERVFAIL = auto()
    REFUSED = auto()
    TIMEOUT = auto()  # so does an answer with the wrong id look, which is not taken
    TRUNCATED = auto()  # over TCP, too
    MALFORMED = auto()
    LOOP = auto()


CERTAIN = {Says.ANSWER, Says.NODATA, Says.NXDOMAIN}
DATA = {
    Type.MX: b"\0\x0a" + wire(b"mx0", b"lb", b"test"),
    Type.A: bytes((1, 1, 1, 1)),
    Type.AAAA: ip_address("2600::1").packed,
}
SOA = record(Type.SOA, wire(b"ns", b"test") * 2 + struct.pack("!IIIII", 1, 60, 60, 60, 0), wire(b"test"))


class Wire:
    """Stands in the place of `exchange`: what is said to each question is a table."""

    def __init__(self, says: Mapping[Type, Says]) -> None:
        self.says = says
        self.asked: list[tuple[Name, Type]] = []

    async def __call__(self, name: Name, kind: Type, server: object, **_: Any) -> Message:
        self.asked.append((name, kind))
        match self.says[kind]:
            case Says.TIMEOUT:
                raise NoReply("no answer within 5 s")
            case Says.TRUNCATED:
                raise BadAnswer("its answer is truncated over TCP, too")
            case Says.MALFORMED:
                raise Unreadable("its answer can't be read")
            case Says.ANSWER:
                return self._message(name, kind, answers=[record(kind, DATA[kind], name)])
            case Says.NODATA:
                return self._message(name, kind, authorities=[SOA])
            case Says.NXDOMAIN:
                return self._message(name, kind, rcode=3, authorities=[SOA])
            case Says.LOOP:
                other = wire(b"x", b"test")
                return self._message(name, kind, answers=[record(5, other, name), record(5, name, other)])
            case Says.SERVFAIL:
                return self._message(name, kind, rcode=2)
            case Says.REFUSED:
                return self._message(name, kind, rcode=5)

    def _message(
        self,
        name: Name,
        kind: Type,
        *,
        rcode: int = 0,
        answers: Sequence[bytes] = (),
        authorities: Sequence[bytes] = (),
    ) -> Message:
        head = HEAD.pack(0, 0x8180 | rcode, 1, len(answers), len(authorities), 0)
        return Message(head + name + struct.pack("!HH", kind, 1) + b"".join((*answers, *authorities)))


async def outcome(monkeypatch: pytest.MonkeyPatch, says: Mapping[Type, Says]) -> tuple[NextHops | NoNextHop, Wire]:
    names = Wire(says)
    monkeypatch.setattr("waypost.dns.stub.exchange", names)
    resolver = StubResolver([(ip_address("127.0.0.1"), 53)], timeout=30)  # type: ignore[list-item]
    router = Router(
        routes=(),
        outbound=Outbound(),
        resolver=resolver,
        hostname="us.test",
        own_addresses=(),
        passwords={},
        shuffle=lambda items: None,
    )
    try:
        return await router.way("lb.test"), names
    except NoNextHop as failure:
        return failure, names
    finally:
        await resolver.close()


@pytest.mark.parametrize("mx", Says)
async def test_mail_is_returned_only_when_every_question_that_could_give_an_address_says_so(
    monkeypatch: pytest.MonkeyPatch, mx: Says
) -> None:
    for a, aaaa in itertools.product(Says, Says):
        found, names = await outcome(monkeypatch, {Type.MX: mx, Type.A: a, Type.AAAA: aaaa})
        case = f"MX {mx.name}, A {a.name}, AAAA {aaaa.name}"
        if mx not in CERTAIN:
            assert isinstance(found, NoNextHop) and not found.permanent and found.status == "4.4.3", case
            continue
        asked = name_of("mx0.lb.test" if mx is Says.ANSWER else "lb.test")
        assert {(asked, Type.A), (asked, Type.AAAA)} <= set(names.asked), case
        if Says.ANSWER in (a, aaaa):
            assert isinstance(found, NextHops), case
            expected = [text for text, said in (("2600::1", aaaa), ("1.1.1.1", a)) if said is Says.ANSWER]
            assert [str(server.address) for server in found.servers] == expected, case
            assert found.whole == ({a, aaaa} <= CERTAIN), case
        elif {a, aaaa} <= CERTAIN:
            assert isinstance(found, NoNextHop) and found.permanent, case
            assert found.status == ("5.4.4" if mx is Says.ANSWER else "5.1.2"), case
        else:
            assert isinstance(found, NoNextHop) and not found.permanent and found.status == "4.4.3", case


@pytest.mark.parametrize("said", sorted(set(Says) - CERTAIN, key=lambda one: one.value))
async def test_a_server_that_denies_aaaa_with_the_whole_name_gets_its_mail_when_its_address_is_there(
    monkeypatch: pytest.MonkeyPatch, said: Says
) -> None:
    found, _ = await outcome(monkeypatch, {Type.MX: Says.ANSWER, Type.A: said, Type.AAAA: Says.NXDOMAIN})
    assert isinstance(found, NoNextHop) and not found.permanent
    found, _ = await outcome(monkeypatch, {Type.MX: Says.ANSWER, Type.A: Says.ANSWER, Type.AAAA: Says.NXDOMAIN})
    assert isinstance(found, NextHops) and found.whole


async def test_a_null_mx_is_permanent_whatever_its_addresses_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA, Type.MX, b"\0\0\0")
    for a in Says:
        found, names = await outcome(monkeypatch, {Type.MX: Says.ANSWER, Type.A: a, Type.AAAA: a})
        assert isinstance(found, NoNextHop) and (found.status, found.permanent) == ("5.1.10", True)
        assert len(names.asked) == 1, "nobody asks for addresses then"


async def test_a_private_address_is_no_verdict_while_the_other_kind_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA, Type.AAAA, ip_address("fd00::1").packed)
    for a in Says:
        found, _ = await outcome(monkeypatch, {Type.MX: Says.ANSWER, Type.A: a, Type.AAAA: Says.ANSWER})
        if a is Says.ANSWER:
            assert isinstance(found, NextHops)
        else:
            assert isinstance(found, NoNextHop) and found.permanent == (a in CERTAIN), a


async def test_a_domain_whose_many_servers_are_all_silent_is_asked_for_with_a_bounded_number_of_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Crowd(Wire):
        async def __call__(self, name: Name, kind: Type, server: object, **_: Any) -> Message:
            if kind == Type.MX:
                self.asked.append((name, kind))
                hosts = [wire(b"mx%d" % n, b"lb", b"test") for n in range(100)]
                return self._message(name, kind, answers=[record(kind, b"\0\x0a" + host, name) for host in hosts])
            self.asked.append((name, kind))  # each answer is one more alias
            deeper = bytes((len(name[1:]) and name[0] + 1,)) + b"a" + name[1:]
            return self._message(name, kind, answers=[record(5, deeper, name, ttl=0)])

    names = Crowd({})
    monkeypatch.setattr("waypost.dns.stub.exchange", names)
    resolver = StubResolver([(ip_address("127.0.0.1"), 53)], timeout=30)  # type: ignore[list-item]
    router = Router(
        routes=(), outbound=Outbound(), resolver=resolver, hostname="us.test", own_addresses=(), passwords={}
    )
    with pytest.raises(NoNextHop) as caught:
        await router.way("lb.test")
    await resolver.close()
    assert not caught.value.permanent and len(names.asked) <= 60
