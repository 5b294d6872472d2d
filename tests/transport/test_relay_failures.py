"""Servers that fail at every stage and in every way: nothing is lost, nobody waits for ever, no slot stays taken."""

import asyncio
from collections import Counter

import pytest
from tests.transport.mail_server import CLOSE, GARBAGE, STALL, MailServer, closed_port
from tests.transport.relay_world import SHORT, World

from waypost.queue.carrier import Fate
from waypost.transport.connection import OutboundConnection
from waypost.transport.next_hops import NextHops

OFFERS = ("PIPELINING", "8BITMIME")
BUSY = "421 4.3.2 come back later"
WAYS_TO_FAIL = [STALL, CLOSE, GARBAGE, BUSY]
BEFORE_MAIL = ["GREETING", "EHLO"]
IN_A_MESSAGE = ["MAIL", "RCPT", "DATA", "CONTENT"]


# -- before the first message ----------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [*WAYS_TO_FAIL, "451 4.3.0 later", "554 5.7.1 not from you", "521 5.3.2 never"])
@pytest.mark.parametrize("stage", BEFORE_MAIL)
async def test_a_server_that_fails_hands_over_to_the_next(stage: str, failure: str) -> None:
    world = World(timeouts=SHORT)
    async with MailServer(*OFFERS, **{stage: failure}) as bad, MailServer(*OFFERS) as good:
        carried = await world.carry(world.entry(), way=NextHops((bad.place("a.test"), good.place("b.test"))))
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.host == "b.test"
    assert len(bad.visits) == 1 and not bad.taken


@pytest.mark.parametrize("failure", WAYS_TO_FAIL)
@pytest.mark.parametrize("stage", BEFORE_MAIL)
async def test_a_destination_that_fails_as_a_whole_is_reported_once(stage: str, failure: str) -> None:
    world = World(timeouts=SHORT)
    async with MailServer(*OFFERS, **{stage: failure}) as server:
        carried = await world.carry(
            *(world.entry("a@server.test", "b@server.test") for _ in range(5)), way=server.way()
        )
        await world.close()
    assert carried.fates == [Fate.DEFERRED] * 2 and carried.failure
    assert len(carried.source.due) == 4 and len(server.visits) == 1, "one attempt serves all"
    assert carried.only.host == "mx.test" and carried.only.address == f"127.0.0.1:{server.port}"
    expected = BUSY if failure == BUSY else "(no mail server answered: mx.test 127.0.0.1:"
    assert all(words.startswith(expected) for words in carried.words)
    assert all(one.status.startswith("4.") for one in carried.only.results)


@pytest.mark.parametrize("whole", [True, False])
async def test_mail_goes_back_only_when_every_server_has_been_asked(whole: bool) -> None:
    world = World()
    async with MailServer(*OFFERS, GREETING="521 5.3.2 this host takes no mail") as server:
        way = NextHops((server.place(),), whole=whole)
        carried = await world.carry(world.entry(), way=way)
        await world.close()
    assert carried.failure
    assert carried.fates == [Fate.FAILED if whole else Fate.DEFERRED], "DNS had no address of another one this time"


async def test_no_mail_goes_back_for_the_first_ten_of_many_servers() -> None:
    world = World()
    async with MailServer(*OFFERS, GREETING="521 5.3.2 this host takes no mail") as server, MailServer(*OFFERS) as good:
        carried = await world.carry(world.entry(), way=NextHops((*[server.place()] * 10, good.place())))
        await world.close()
    assert carried.fates == [Fate.DEFERRED]


async def test_a_fault_of_ours_at_one_server_hands_over_to_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hello = OutboundConnection.hello

    async def fail(connection: OutboundConnection) -> None:
        if connection.server.name == "a.test":
            raise RuntimeError("a fault of ours")
        await hello(connection)

    monkeypatch.setattr(OutboundConnection, "hello", fail)
    world = World()
    async with MailServer(*OFFERS) as bad, MailServer(*OFFERS) as good:
        carried = await world.carry(world.entry(), way=NextHops((bad.place("a.test"), good.place("b.test"))))
        assert carried.fates == [Fate.RELAYED] and carried.only.host == "b.test"
        carried = await world.carry(world.entry(), way=NextHops((bad.place("a.test"),)), destination="other.test")
        await world.close()
    assert carried.fates == [Fate.DEFERRED] and "a fault of ours" in caplog.text
    assert carried.words == ["(something went wrong on our side)"]


async def test_a_code_that_is_not_in_the_book_is_about_one_recipient() -> None:
    world = World()

    def rcpt(visit: object, line: str) -> str:
        return "571 5.7.1 not for you" if "<eve@" in line else "250 ok"

    async with MailServer(*OFFERS, RCPT=rcpt) as server:
        carried = await world.carry(world.entry("eve@server.test", "bob@server.test"), way=server.way())
        await world.close()
    assert carried.fates == [Fate.FAILED, Fate.RELAYED]


async def test_the_word_about_a_destination_is_no_recipients_own() -> None:
    world = World()

    def rcpt(visit: object, line: str) -> str:
        return "450 4.2.2 the mailbox of Carol is full" if "<carol@" in line else CLOSE

    async with MailServer(RCPT=rcpt) as server:
        entries = [world.entry("carol@server.test", "dave@server.test") for _ in range(3)]
        carried = await world.carry(*entries, way=server.way())
        await world.close()
    failure = carried.failure
    assert failure is not None and failure.reply is None and failure.problem == "the connection was lost"
    assert {str(one.recipient.address) for one in failure.attempt.results} == {"carol@server.test", "dave@server.test"}


async def test_what_is_said_of_recipients_alone_is_no_word_about_a_destination() -> None:
    world = World()
    full = "450 4.2.2 <bob@server.test>: mailbox full"
    async with MailServer("PIPELINING", RCPT=full, DATA=CLOSE) as server:
        carried = await world.carry(*(world.entry() for _ in range(6)), way=server.way())
        await world.close()
    assert carried.failure is None


async def test_destinations_behind_one_smart_host_share_connections() -> None:
    world = World()
    async with MailServer(*OFFERS) as server:
        for shared, visits in ((False, 5), (True, 6)):
            for number in range(5):
                way = NextHops((server.place(),), shared=shared)
                carried = await world.carry(world.entry(), way=way, destination=f"d{number}.test")
                assert carried.fates == [Fate.RELAYED]
            assert len(server.visits) == visits
        await world.close()


async def test_a_server_gets_no_more_transactions_than_it_wants() -> None:
    world = World()
    async with MailServer("PIPELINING", "LIMITS MAILMAX=2 RCPTMAX=2") as server:
        recipients = [f"r{number}@server.test" for number in range(7)]
        carried = await world.carry(world.entry(*recipients), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED] * 4 + [Fate.DEFERRED] * 3
    assert sum(line.startswith("MAIL") for line in server.visits[0].lines) == 2


async def test_a_port_that_is_closed_fails_over_and_fails() -> None:
    world = World()
    async with closed_port() as nowhere, MailServer(*OFFERS) as good:
        carried = await world.carry(world.entry(), way=NextHops((nowhere, good.place())))
        assert carried.fates == [Fate.RELAYED]
        carried = await world.carry(world.entry(), way=NextHops((nowhere,)), destination="other.test")
        await world.close()
    assert carried.failure
    assert carried.words == [f"(no mail server answered: {nowhere}: no connection: connection refused)"]
    assert carried.only.results[0].status == "4.4.1"


async def test_each_server_is_named_when_none_answers() -> None:
    world = World()
    async with closed_port() as nowhere, MailServer(*OFFERS, GREETING=GARBAGE) as server:
        carried = await world.carry(world.entry(), way=NextHops((nowhere, server.place())))
        await world.close()
    assert "closed.test" in carried.words[0] and "mx.test" in carried.words[0]


async def test_a_peers_words_come_before_our_own() -> None:
    world = World()
    async with MailServer(*OFFERS, GREETING="554 5.7.1 you are on a list") as server, closed_port() as nowhere:
        carried = await world.carry(world.entry(), way=NextHops((server.place(), nowhere)))
        await world.close()
    assert carried.words == ["554 5.7.1 you are on a list"]
    assert (carried.fates, carried.only.results[0].status) == ([Fate.DEFERRED], "4.7.1")


@pytest.mark.parametrize("greeting", ["521 mx.test never takes mail", "556 5.1.10 no mail"])
async def test_only_hosts_that_all_never_take_mail_fail_for_good(greeting: str) -> None:
    world = World()
    async with MailServer(GREETING=greeting) as one, MailServer(GREETING=greeting) as two:
        carried = await world.carry(world.entry(), world.entry(), way=NextHops((one.place(), two.place())))
        await world.close()
    assert carried.fates == [Fate.FAILED] and carried.failure
    assert carried.words == [greeting]
    assert carried.only.results[0].status == ("5.1.10" if "5.1.10" in greeting else "5.3.2")


@pytest.mark.parametrize("other", ["554 no", "451 later"])
async def test_one_host_that_might_take_mail_keeps_it_waiting(other: str) -> None:
    world = World()
    async with MailServer(GREETING="521 never") as one, MailServer(GREETING=other) as two:
        carried = await world.carry(world.entry(), way=NextHops((one.place(), two.place())))
        await world.close()
    assert carried.fates == [Fate.DEFERRED]


async def test_a_refused_greeting_is_followed_by_quit() -> None:
    world = World()
    async with MailServer(GREETING="554 no") as server:
        await world.carry(world.entry(), way=server.way())
        await world.close()
    assert server.visits[0].lines == ["QUIT"]


# -- in a message ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", WAYS_TO_FAIL)
@pytest.mark.parametrize("stage", IN_A_MESSAGE)
@pytest.mark.parametrize("offers", [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")])
async def test_a_failure_in_a_message_defers_it(offers: tuple[str, ...], stage: str, failure: str) -> None:
    if stage == "DATA" and "CHUNKING" in offers:
        return
    world = World(timeouts=SHORT)
    async with MailServer(*offers, **{stage: failure}) as server:
        carried = await world.carry(world.entry("a@server.test", "b@server.test"), way=server.way())
        await world.close()
    assert carried.fates == [Fate.DEFERRED] * 2
    assert carried.failure is None, "it may have been about this message"
    if failure == BUSY:
        assert carried.words == [BUSY] * 2
    assert len(server.visits) == 1


@pytest.mark.parametrize("failure", [CLOSE, BUSY])
async def test_what_was_decided_before_the_failure_stays_decided(failure: str) -> None:
    world = World()
    async with MailServer(
        *OFFERS, RCPT=lambda _, line: "550 5.1.1 no" if "eve" in line else "250 ok", DATA=failure
    ) as server:
        carried = await world.carry(world.entry("eve@server.test", "bob@server.test"), way=server.way())
        await world.close()
    assert carried.fates == [Fate.FAILED, Fate.DEFERRED]


async def test_a_connection_that_is_lost_behind_the_last_dot_defers() -> None:
    world = World()
    async with MailServer(*OFFERS, CONTENT=CLOSE) as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.DEFERRED] and carried.words == ["(the connection was lost)"]
    assert carried.only.results[0].status == "4.4.2"


async def test_a_refusal_of_one_message_leaves_the_connection_to_the_next() -> None:
    world = World(max_connections_per_destination=1)
    server = MailServer(*OFFERS, CONTENT=lambda visit, _: "250 ok")
    refusals = iter(["550 5.7.1 spam", "250 ok", "451 4.7.1 greylisted", "250 ok"])
    server.answers["CONTENT"] = lambda visit, _: next(refusals)
    async with server:
        carried = await world.carry(*(world.entry() for _ in range(4)), way=server.way())
        await world.close()
    assert carried.fates == [Fate.FAILED, Fate.RELAYED, Fate.DEFERRED, Fate.RELAYED]
    assert len(server.visits) == 1


async def test_a_server_that_answers_each_message_with_421_is_left_alone_after_three() -> None:
    world = World()
    async with MailServer(*OFFERS, MAIL=BUSY) as server:
        carried = await world.carry(*(world.entry() for _ in range(50)), way=server.way())
        await world.close()
    assert len(server.visits) == 3
    assert len(carried.results) == 3 and carried.failure is not None and carried.failure.words == BUSY
    assert len(carried.source.due) == 47, "the queue counts the last one for these"
    assert set(carried.fates) == {Fate.DEFERRED}


async def test_a_word_about_the_whole_destination_never_fails_anybody() -> None:
    world = World(max_connections_per_destination=1)
    server = MailServer(*OFFERS, RCPT=lambda _, line: "550 5.1.1 no" if "eve" in line else "250 ok", DATA=BUSY)
    async with server:
        entries = [world.entry("eve@server.test", "bob@server.test") for _ in range(6)]
        carried = await world.carry(*entries, way=server.way())
        await world.close()
    assert carried.failure is None or Fate.FAILED not in [one.fate for one in carried.failure.attempt.results]


# -- how fast --------------------------------------------------------------------------------------------------


async def test_a_dead_destination_does_not_delay_another() -> None:
    world = World(timeouts=SHORT)
    async with MailServer(*OFFERS, GREETING=STALL) as dead, MailServer(*OFFERS) as alive:
        first = asyncio.create_task(world.carry(world.entry(), way=dead.way(), destination="dead.test"))
        await dead.until(lambda: dead.visits)
        carried = await world.carry(*(world.entry() for _ in range(20)), way=alive.way())
        assert not first.done() and Counter(carried.fates) == {Fate.RELAYED: 20}
        assert (await first).fates == [Fate.DEFERRED]
        await world.close()


async def test_connections_to_a_destination_grow_from_two() -> None:
    world = World(max_connections_per_destination=20)
    seen: list[int] = []
    server = MailServer(*OFFERS)

    def count(visit: object, line: str) -> str:
        seen.append(server.open)
        return "250 ok"

    server.answers["MAIL"] = count
    async with server:
        await world.carry(*(world.entry() for _ in range(300)), way=server.way())
        await world.close()
    assert seen[0] <= 2 and max(seen[:4]) <= 4
    assert max(seen) > 8
    assert server.most_open <= 20


async def test_a_destination_that_takes_few_connections_gets_few() -> None:
    """The third connection is refused: its entry goes over the others, and it is not tried again for now."""
    world = World(max_connections_per_destination=20)
    server = MailServer(*OFFERS)
    server.answers["GREETING"] = lambda visit, _: "220 hi" if server.open <= 2 else "421 4.7.0 too many connections"
    async with server:
        carried = await world.carry(*(world.entry() for _ in range(200)), way=server.way())
        await world.close()
    assert Counter(carried.fates) == {Fate.RELAYED: 200}
    assert len(server.taken) == 200
    assert 1 <= len(carried.source.given_back) <= 2


async def test_all_slots_taken_means_waiting_not_failing() -> None:
    world = World(max_connections=2, idle=10.0)
    servers = [await MailServer(*OFFERS).start() for _ in range(6)]
    try:
        carries = [
            world.carry(*(world.entry() for _ in range(5)), way=server.way(), destination=f"d{number}.test")
            for number, server in enumerate(servers)
        ]
        for carried in await asyncio.gather(*carries):
            assert Counter(carried.fates) == {Fate.RELAYED: 5}
        assert world.relay.connections <= 2, "idle connections made room"
        await world.close()
    finally:
        for server in servers:
            await server.stop()
