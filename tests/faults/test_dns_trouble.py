"""Name servers that are gone, silent, slow, broken or lying, under a whole worker: mail waits with the true reason, and
goes out when names can be had again.
"""

import asyncio
from collections.abc import Iterable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest
from tests.dns.servers import LOOPBACK, SOA, Script, ScriptedServer, answer, zone
from tests.faults.callers import Caller
from tests.faults.conftest import OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import ALICE, Office
from tests.transport.mail_server import MailServer

from waypost.config.settings import SECOND, Dns
from waypost.journal import Relayed
from waypost.message.trace import parse_trace_id

CAROL = "carol@there.test"
TRUTH = zone(
    {
        "there.test MX": ["there.test. 60 IN MX 10 mx.there.test."],
        "mx.there.test A": ["mx.there.test. 60 IN A 127.0.0.1"],
    }
)
Replies = Iterable[dns.message.Message | bytes]


def silence(query: dns.message.Message) -> Replies:
    return []


def code(rcode: dns.rcode.Rcode) -> Script:
    return lambda query: [answer(query, rcode=rcode)]


def wrong_id(query: dns.message.Message) -> Replies:
    [reply] = TRUTH(query)
    assert isinstance(reply, dns.message.Message)
    reply.id = query.id ^ 1
    return [reply]


def wrong_name(query: dns.message.Message) -> Replies:
    """Answers another question, with a record for ours."""
    other = dns.message.make_query("elsewhere.test.", query.question[0].rdtype, id=query.id)
    return [answer(other, "there.test. 60 IN MX 10 mx.there.test.")]


def no_question(query: dns.message.Message) -> Replies:
    [reply] = TRUTH(query)
    assert isinstance(reply, dns.message.Message)
    reply.question.clear()
    return [reply]


def rubbish(query: dns.message.Message) -> Replies:
    return [bytes(range(200)), query.id.to_bytes(2) + b"\x81\x80" + bytes(range(100))]


def truncated(query: dns.message.Message) -> Replies:
    return [answer(query, flags=dns.flags.TC)]


def referral(query: dns.message.Message) -> Replies:
    reply = answer(query, authority=("test. 60 IN NS ns.test.",))
    reply.flags &= ~dns.flags.RA
    return [reply]


def circle(query: dns.message.Message) -> Replies:
    name = query.question[0].name
    return [answer(query, f"{name} 0 IN CNAME a.test.", "a.test. 0 IN CNAME b.test.", "b.test. 0 IN CNAME a.test.")]


TROUBLES: dict[str, Script] = {
    "silence": silence,
    "SERVFAIL": code(dns.rcode.SERVFAIL),
    "REFUSED": code(dns.rcode.REFUSED),
    "NOTIMP": code(dns.rcode.NOTIMP),
    "the wrong id": wrong_id,
    "the wrong name": wrong_name,
    "no question": no_question,
    "rubbish": rubbish,
    "truncated for ever": truncated,
    "a referral": referral,
    "a circle": circle,
}


@pytest.fixture(autouse=True)
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures of DNS are remembered for a moment only."""
    monkeypatch.setattr("waypost.dns.stub.FAILURE_TTL", 0.05)


async def send_to_carol(office: OpenOffice, ledger: Ledger, names: tuple[object, int], port: int) -> Office:
    house = await office(
        dns=Dns((names,), timeout=SECOND // 4),  # type: ignore[arg-type]
        outbound={"port": port, "allow_private_addresses": True},
    )
    caller = await Caller.submission(house.port("submissions"), ALICE)
    assert (await ledger.post(caller, ALICE, CAROL)).startswith("250")
    return house


async def reason(house: Office) -> str:
    """Return why the only message waits, when it was tried."""
    async with asyncio.timeout(30):
        while True:
            [entry] = await house.queued()
            if entry.last_error is not None:
                return entry.last_error
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_mail_waits_for_names_and_goes_out_when_there_are_some(
    office: OpenOffice, ledger: Ledger, trouble: str
) -> None:
    async with MailServer("PIPELINING") as there, ScriptedServer(TROUBLES[trouble]) as names:
        house = await send_to_carol(office, ledger, names.place, there.port)
        words = await reason(house)
        assert words.startswith("the name server gave no answer: MX of there.test: ")
        assert not there.visits
        names.udp = names.tcp = TRUTH
        await house.drained()
        found = await ledger.audit(house, there)
    assert found.relayed.total() == 1 and not found.returned


async def test_a_name_server_that_is_gone_is_asked_again_when_it_is_back(office: OpenOffice, ledger: Ledger) -> None:
    async with MailServer("PIPELINING") as there:
        async with ScriptedServer(TRUTH) as names:
            place = names.place
        house = await send_to_carol(office, ledger, place, there.port)
        assert "can't be asked" in await reason(house)
        back = ScriptedServer(TRUTH)
        back.port = place[1]
        async with back:
            await house.drained()
        await ledger.audit(house, there)


async def test_a_slow_name_server_is_waited_for(office: OpenOffice, ledger: Ledger) -> None:
    """Of three questions each is answered late, but in time."""
    loop = asyncio.get_running_loop()
    async with MailServer("PIPELINING") as there, ScriptedServer(silence) as names:

        def late(query: dns.message.Message) -> Replies:
            address = (str(LOOPBACK), names.ports[-1])
            for reply in TRUTH(query):
                assert isinstance(reply, dns.message.Message)
                loop.call_later(0.1, names._datagrams.sendto, reply.to_wire(), address)
            return []

        names.udp = late
        house = await send_to_carol(office, ledger, names.place, there.port)
        await house.drained()
        found = await ledger.audit(house, there)
    assert found.relayed.total() == 1


async def test_trouble_with_the_addresses_alone_is_no_reason_to_return_mail(office: OpenOffice, ledger: Ledger) -> None:
    def half(query: dns.message.Message) -> Replies:
        return TRUTH(query) if query.question[0].rdtype.name == "MX" else [answer(query, rcode=dns.rcode.SERVFAIL)]

    async with MailServer("PIPELINING") as there, ScriptedServer(half) as names:
        house = await send_to_carol(office, ledger, names.place, there.port)
        assert "the name server gave no answer: " in await reason(house)
        names.udp = TRUTH
        await house.drained()
        found = await ledger.audit(house, there)
    assert found.relayed.total() == 1


async def test_a_server_that_denies_the_whole_name_when_asked_for_aaaa_returns_no_mail(
    office: OpenOffice, ledger: Ledger
) -> None:
    """RFC 4074 section 4.2, while A fails for the moment."""

    def half(query: dns.message.Message) -> Replies:
        match query.question[0].rdtype.name:
            case "AAAA":
                return [answer(query, rcode=dns.rcode.NXDOMAIN, authority=(SOA,))]
            case "A":
                return [answer(query, rcode=dns.rcode.SERVFAIL)]
        return TRUTH(query)

    async with MailServer("PIPELINING") as there, ScriptedServer(half) as names:
        house = await send_to_carol(office, ledger, names.place, there.port)
        assert "the name server gave no answer: A of mx.there.test" in await reason(house)
        names.udp = TRUTH
        await house.drained()
        found = await ledger.audit(house, there)
    assert found.relayed.total() == 1 and not found.returned


async def test_a_name_server_that_drops_edns_keeps_no_mail_back(office: OpenOffice, ledger: Ledger) -> None:
    def old(query: dns.message.Message) -> Replies:
        return [] if query.edns >= 0 else TRUTH(query)

    async with MailServer("PIPELINING") as there, ScriptedServer(old) as names:
        house = await send_to_carol(office, ledger, names.place, there.port)
        await house.drained()
        found = await ledger.audit(house, there)
    assert found.relayed.total() == 1 and [query.edns >= 0 for query in names.queries].count(True) == 1


async def test_an_mx_that_is_an_address_is_delivered_to_and_the_journal_says_so(
    office: OpenOffice, ledger: Ledger
) -> None:
    names_it = zone({"there.test MX": ["there.test. 60 IN MX 10 127.0.0.1."]})
    async with MailServer("PIPELINING") as there, ScriptedServer(names_it) as names:
        house = await office(
            dns=Dns((names.place,), timeout=SECOND), outbound={"port": there.port, "allow_private_addresses": True}
        )
        caller = await Caller.submission(house.port("submissions"), ALICE)
        reply = await ledger.post(caller, ALICE, CAROL)
        await house.drained()
        await ledger.audit(house, there)
        events = await house.storage.journal.of(parse_trace_id(reply.split()[-1]))
    [relayed] = [event.details for event in events if isinstance(event.details, Relayed)]
    assert relayed.note == "the MX 127.0.0.1 is an IP address and no name (RFC 1035 section 3.3.9)"


@pytest.mark.parametrize(
    ("lie", "status"),
    [
        (lambda query: [answer(query, rcode=dns.rcode.NXDOMAIN, authority=(SOA,))], b"5.1.2"),
        (lambda query: [answer(query, rcode=dns.rcode.NXDOMAIN)], b"5.1.2"),
        (zone({"there.test MX": ["there.test. 60 IN MX 0 ."]}), b"5.1.10"),
    ],
    ids=["there is no such name", "the same without proof", "it takes no mail"],
)
async def test_a_lie_that_looks_like_the_truth_returns_the_mail_to_its_sender(
    office: OpenOffice, ledger: Ledger, lie: Script, status: bytes
) -> None:
    """Without DNSSEC nobody can tell; but nothing is lost by it."""
    async with MailServer("PIPELINING") as there, ScriptedServer(lie) as names:
        house = await send_to_carol(office, ledger, names.place, there.port)
        await house.drained()
        found = await ledger.audit(house, there)
        [row] = await house.storage.mailboxes.messages((await house.account(ALICE)).inbox)
        report = await house.storage.mailboxes.open(row.mailbox, row.uid)
        assert b"Status: " + status in await report.read(0, report.size)
    assert found.returned.total() == 1 and not there.visits
