"""The relay on the straight road: real sockets, real SMTP, servers that do what they should."""

import asyncio
from collections import Counter, deque
from ipaddress import ip_address

import pytest
from msgspec.structs import replace
from tests.transport.mail_server import MailServer
from tests.transport.relay_world import MESSAGE, Source, World

from waypost.message.address import Address
from waypost.message.envelope import DeliverBy, Envelope, Ret
from waypost.message.reply import Reply
from waypost.queue.carrier import Fate
from waypost.storage import QueueEntry
from waypost.transport.next_hops import NoNextHop
from waypost.transport.regulator import Pace

OFFERS = ("PIPELINING", "8BITMIME", "SIZE")


@pytest.mark.parametrize("offers", [(), ("PIPELINING",), ("PIPELINING", "CHUNKING"), ("CHUNKING",)])
async def test_a_message_is_relayed_and_the_result_says_all(offers: tuple[str, ...]) -> None:
    world = World()
    async with MailServer(*offers) as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert [taken.content for taken in server.taken] == [MESSAGE]
    result = carried.only
    assert carried.fates == [Fate.RELAYED] and carried.words == ["250 2.0.0 taken"]
    assert result.results[0].status == "2.0.0"
    assert (result.host, result.address) == ("mx.test", f"127.0.0.1:{server.port}")
    assert (result.source, result.tls) == ("127.0.0.1", None)
    assert not result.dsn_passed_on
    assert carried.parting.not_before == 0


async def test_a_reply_stays_the_value_that_the_engine_read() -> None:
    world = World()
    refusal = "550-5.7.1 Blocked by reputation\r\n550 5.7.1 see https://list.test"
    async with MailServer("PIPELINING", RCPT=refusal) as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    [one] = carried.only.results
    assert one.reply == Reply(550, "5.7.1", ("Blocked by reputation", "see https://list.test")) and one.problem is None
    async with MailServer(GREETING="421-4.7.0 Too many\r\n421 4.7.0 connections") as server:
        carried = await world.carry(world.entry(), way=server.way(), destination="busy.test")
        await world.close()
    assert carried.failure is not None
    assert carried.failure.reply == Reply(421, "4.7.0", ("Too many", "connections"))


async def test_recipients_of_a_message_share_a_transaction_and_have_their_own_fates() -> None:
    answers = {"bob": "250 2.1.5 ok", "eve": "550 5.1.1 no such user", "joe": "450 4.2.1 later"}
    world = World()
    server = MailServer(*OFFERS, RCPT=lambda visit, line: answers[line.split("<")[1].split("@")[0]])
    async with server:
        entry = world.entry("bob@server.test", "eve@server.test", "joe@server.test")
        carried = await world.carry(entry, way=server.way())
        await world.close()
    assert [taken.recipients for taken in server.taken] == [("bob@server.test",)]
    assert carried.fates == [Fate.RELAYED, Fate.FAILED, Fate.DEFERRED]
    assert carried.words == ["250 2.0.0 taken", "550 5.1.1 no such user", "450 4.2.1 later"]
    assert [one.status for one in carried.only.results] == ["2.0.0", "5.1.1", "4.2.1"]


async def test_a_reply_without_enhanced_code_has_a_status_all_the_same() -> None:
    world = World()
    async with MailServer(*OFFERS, RCPT="550 no", CONTENT="250 yes") as server:
        carried = await world.carry(world.entry(), way=server.way())
        server.answers["RCPT"] = "450 later"
        carried_later = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.only.results[0].status == "5.0.0"
    assert carried_later.only.results[0].status == "4.0.0"


async def test_many_messages_go_over_few_connections() -> None:
    world = World(max_messages_per_connection=100, max_connections_per_destination=8)
    async with MailServer(*OFFERS) as server:
        carried = await world.carry(*(world.entry() for _ in range(1000)), way=server.way())
        await world.close()
    assert Counter(carried.fates) == {Fate.RELAYED: 1000}
    assert len(server.taken) == 1000
    assert server.most_open <= 8
    assert len(server.visits) <= 8 + 1000 // 100
    assert max(visit.messages for visit in server.visits) <= 100
    assert all(visit.quit for visit in server.visits), "every connection ends with QUIT"
    assert not any(line == "RSET" for visit in server.visits for line in visit.lines)


async def test_a_stream_of_single_messages_reuses_a_connection() -> None:
    world = World()
    async with MailServer(*OFFERS) as server:
        for _ in range(5):
            await world.carry(world.entry(), way=server.way())
        assert [visit.messages for visit in server.visits] == [5]
        assert world.relay.connections == 1
        await world.close()
    assert server.visits[0].quit


async def test_an_idle_connection_quits_after_some_seconds() -> None:
    world = World(idle=0.05)
    async with MailServer(*OFFERS) as server:
        await world.carry(world.entry(), way=server.way())
        await server.until(lambda: server.visits[0].quit and server.open == 0)
        assert server.visits[0].messages == 1
        await world.close()


async def test_a_server_that_closes_an_idle_connection_costs_no_message() -> None:
    world = World()
    async with MailServer(*OFFERS, QUIT="221 bye") as server:
        await world.carry(world.entry(), way=server.way())
        await server.stop()
        await server.start()
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED]


@pytest.mark.parametrize("farewell", ["421 4.5.3 enough for one session", "close"])
async def test_a_connection_that_ends_before_a_messages_turn_costs_no_attempt(farewell: str) -> None:
    world = World(max_connections_per_destination=1)
    server = MailServer(*OFFERS, MAIL=lambda visit, _: farewell if visit.messages == 3 else "250 ok")
    async with server:
        carried = await world.carry(*(world.entry() for _ in range(10)), way=server.way())
        await world.close()
    assert Counter(carried.fates) == {Fate.RELAYED: 10}
    assert [visit.messages for visit in server.visits] == [3, 3, 3, 1]


async def test_connections_to_other_servers_of_the_way_are_not_mixed_up() -> None:
    world = World()
    async with MailServer(*OFFERS) as old, MailServer(*OFFERS) as new:
        await world.carry(world.entry(), way=old.way())
        await world.carry(world.entry(), way=new.way())
        await old.until(lambda: old.visits[0].quit)
        await world.close()
    assert len(old.taken) == len(new.taken) == 1


# -- recipients by the hundred ---------------------------------------------------------------------------------


def crowd(count: int) -> list[str]:
    return [f"user{number}@server.test" for number in range(count)]


@pytest.mark.parametrize(("offer", "expected"), [("", [100, 100, 50]), ("LIMITS RCPTMAX=120", [120, 120, 10])])
async def test_recipients_past_the_limit_go_in_further_transactions(offer: str, expected: list[int]) -> None:
    world = World()
    async with MailServer(*OFFERS, *([offer] if offer else [])) as server:
        carried = await world.carry(world.entry(*crowd(250)), way=server.way())
        await world.close()
    assert [len(taken.recipients) for taken in server.taken] == expected
    assert len(server.visits) == 1
    assert Counter(carried.fates) == {Fate.RELAYED: 250}
    assert [str(one.recipient.address) for one in carried.only.results] == crowd(250)


def limited(limit: int, refusal: str) -> MailServer:
    """A server that takes some recipients in a transaction, and does not say so beforehand."""
    counts: Counter[int] = Counter()

    def mail(visit: object, line: str) -> str:
        counts[0] = 0
        return "250 ok"

    def rcpt(visit: object, line: str) -> str:
        counts[0] += 1
        return "250 ok" if counts[0] <= limit else refusal

    return MailServer(*OFFERS, MAIL=mail, RCPT=rcpt)


@pytest.mark.parametrize("refusal", ["452 4.5.3 too many", "452 too many", "552 5.5.3 too many", "552 too many"])
async def test_too_many_recipients_means_the_rest_in_another_transaction(refusal: str) -> None:
    world = World()
    async with limited(20, refusal) as server:
        carried = await world.carry(world.entry(*crowd(50)), way=server.way())
        await world.close()
    assert [len(taken.recipients) for taken in server.taken] == [20, 20, 10]
    assert Counter(carried.fates) == {Fate.RELAYED: 50}
    assert sum(line.startswith("RCPT") for line in server.visits[0].lines) == 50 + 20 + 10, "the limit is learnt"


async def test_a_full_mailbox_is_not_tried_at_once_again() -> None:
    world = World()
    server = MailServer(*OFFERS, RCPT=lambda _, line: "452 4.2.2 full" if "user1@" in line else "250 ok")
    async with server:
        carried = await world.carry(world.entry(*crowd(3)), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED, Fate.DEFERRED, Fate.RELAYED]
    assert len(server.taken) == 1


@pytest.mark.parametrize(("refusal", "fate"), [("452 4.5.3 no", Fate.DEFERRED), ("552 5.5.3 no", Fate.DEFERRED)])
async def test_a_server_that_finds_one_too_many_is_not_asked_for_ever(refusal: str, fate: Fate) -> None:
    world = World()
    async with limited(0, refusal) as server:
        carried = await world.carry(world.entry(*crowd(3)), way=server.way())
        await world.close()
    assert carried.fates == [fate] * 3


async def test_a_limit_of_messages_is_kept() -> None:
    world = World(max_connections_per_destination=1)
    async with MailServer(*OFFERS, "LIMITS MAILMAX=4") as server:
        await world.carry(*(world.entry() for _ in range(10)), way=server.way())
        await world.close()
    assert [visit.messages for visit in server.visits] == [4, 4, 2]


# -- LMTP ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [("PIPELINING",), ("PIPELINING", "CHUNKING")])
async def test_lmtp_gives_each_recipient_its_own_answer(offers: tuple[str, ...]) -> None:
    world = World()
    server = MailServer(
        *offers, lmtp=True, CONTENT=lambda _, who: "452 4.2.2 full" if who.startswith("eve") else "250 2.1.5 taken"
    )
    async with server:
        carried = await world.carry(
            world.entry("eve@server.test", "bob@server.test"), world.entry("bob@server.test"), way=server.way()
        )
        await world.close()
    assert carried.words == ["452 4.2.2 full", "250 2.1.5 taken", "250 2.1.5 taken"]
    assert server.visits[0].lines[0] == "LHLO client.test"
    assert [taken.recipients for taken in server.taken] == [("bob@server.test",)] * 2


# -- what is passed on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [(), ("DSN",), ("DELIVERBY",), ("DSN", "DELIVERBY")])
async def test_who_reports_success_and_delay_is_told(offers: tuple[str, ...]) -> None:
    world = World()
    envelope = replace(
        Envelope(Address.parse("alice@client.test")), ret=Ret.FULL, deliver_by=DeliverBy(world.now + 60_000_000, "N")
    )
    async with MailServer(*OFFERS, *offers) as server:
        carried = await world.carry(world.entry(envelope=envelope), way=server.way())
        await world.close()
    assert carried.only.dsn_passed_on == ("DSN" in offers)
    assert carried.only.deadline_passed_on == ("DELIVERBY" in offers)
    assert ("RET=FULL" in server.taken[0].mail) == ("DSN" in offers)


async def test_what_the_next_hop_lacks_fails_with_our_own_words() -> None:
    world = World()
    async with MailServer("PIPELINING") as server:
        carried = await world.carry(
            world.entry(content="Subject: x\r\n\r\nGrüße\r\n".encode()),
            world.entry("jörg@server.test", "bob@server.test"),
            way=server.way(),
        )
        await world.close()
    assert carried.fates == [Fate.FAILED, Fate.FAILED, Fate.RELAYED] or carried.fates == [
        Fate.FAILED,
        Fate.RELAYED,
        Fate.FAILED,
    ]
    first = carried.results[0].results[0]
    assert (first.status, first.reply) == ("5.6.3", None) and "8BITMIME" in str(first.problem)
    assert carried.only if len(carried.results) == 1 else carried.results[1].results[0].status == "5.6.7"


# -- source addresses ------------------------------------------------------------------------------------------


async def test_the_source_addresses_of_version_0_1_0_are_sources() -> None:
    sources = (ip_address("127.0.0.2"), ip_address("127.0.0.3"), ip_address("::1"))
    world = World(source_addresses=sources, max_messages_per_connection=1, max_connections_per_destination=1)
    async with MailServer(*OFFERS) as server:
        carried = await world.carry(*(world.entry() for _ in range(4)), way=server.way())
        await world.close()
    [peer] = {visit.peer for visit in server.visits}
    assert peer in ("127.0.0.2", "127.0.0.3"), "one sender and one recipient, so one source"
    assert [result.source for result in carried.results] == [peer] * 4


async def test_a_family_without_a_source_address_is_not_used() -> None:
    world = World(source_addresses=(ip_address("::1"),))
    async with MailServer(*OFFERS) as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert not server.visits
    assert carried.fates == [Fate.DEFERRED]
    assert "no source (outbound.source) has an IPv4 address" in carried.words[0]


async def test_a_source_address_of_another_machine_is_the_operators_mistake() -> None:
    world = World(source_addresses=(ip_address("192.0.2.1"),))
    async with MailServer(*OFFERS) as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.words == ["(192.0.2.1 (outbound.source) is no address of this machine)"]
    assert carried.fates == [Fate.DEFERRED]


# -- no way ----------------------------------------------------------------------------------------------------


async def test_a_destination_without_a_way_for_now_is_reported_once_for_all() -> None:
    world = World()
    no_way = NoNextHop("the name servers do not answer", status="4.4.3", permanent=False)
    carried = await world.carry(world.entry(), world.entry(), way=no_way)
    assert carried.fates == [Fate.DEFERRED] and carried.failure
    assert (carried.only.results[0].status, carried.words) == ("4.4.3", ["(the name servers do not answer)"])
    assert len(carried.source.due) == 1, "the queue counts the failure for the others"
    assert carried.parting.not_before == world.now, "the first failure costs no pause"
    world.now += 80 * 60_000_000
    carried = await world.carry(world.entry(), way=no_way)
    assert world.now <= carried.parting.not_before <= world.now + Pace().longest_pause


async def test_a_destination_that_does_not_exist_fails_for_good() -> None:
    world = World()
    no_way = NoNextHop("there is no such domain", status="5.1.2", permanent=True)
    carried = await world.carry(world.entry(), world.entry(), way=no_way)
    assert carried.fates == [Fate.FAILED] and carried.failure
    assert carried.parting.not_before == 0


async def test_nothing_due_is_nothing_done() -> None:
    world = World()
    async with MailServer() as server:
        carried = await world.carry(way=server.way())
        assert not carried.results and not server.visits
    carried = await world.carry(way=NoNextHop("no", status="4.4.3", permanent=False))
    assert not carried.results


async def test_the_next_message_goes_out_while_the_last_outcome_is_written() -> None:
    world = World(max_connections_per_destination=1)
    async with MailServer(*OFFERS) as server:
        world.ways["server.test"] = server.way()
        source = Source(deque([world.entry(), world.entry(), world.entry()]))
        source.durable.clear()
        carrying = asyncio.create_task(world.relay.carry("server.test", source))
        await server.until(lambda: len(server.taken) == 2)
        assert len(source.results) == 1
        source.durable.set()
        await carrying
        await world.close()
    assert len(server.taken) == 3


class PatientSource(Source):
    """Counts who waits at the same time."""

    waiting = 0
    most_waiting = 0

    async def take(self, wait: float) -> QueueEntry | None:
        if not wait or self.due:
            return await super().take(wait)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            for _ in range(50):
                await asyncio.sleep(0)
            return await super().take(wait)
        finally:
            self.waiting -= 1


async def test_one_lane_lingers_for_more_and_the_others_end() -> None:
    world = World(linger=0.01, max_connections_per_destination=8)
    async with MailServer(*OFFERS) as server:
        world.ways["server.test"] = server.way()
        source = PatientSource(deque(world.entry() for _ in range(100)))
        await world.relay.carry("server.test", source)
        await world.close()
    assert len(source.results) == 100 and not source.in_flight
    assert source.most_waiting == 1
