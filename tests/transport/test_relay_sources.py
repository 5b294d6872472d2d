"""Mail leaves from several sources: each message from its own, each source at its own pace."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from msgspec.structs import replace
from tests.transport.mail_server import CLOSE, STALL, MailServer, Visit
from tests.transport.relay_world import Source, World

from waypost.config.settings import EgressSource
from waypost.queue.carrier import Fate
from waypost.storage import QueueEntry
from waypost.transport.next_hops import NextHops

OFFERS = ("PIPELINING",)
FOUR = tuple(f"127.0.0.{number}" for number in range(2, 6))
GONE = "192.0.2.1"


def world_of(*addresses: str, **options: Any) -> World:
    return World(sources=tuple(EgressSource(ip_address(address)) for address in addresses), **options)


def names(world: World, count: int) -> list[QueueEntry]:
    return [world.entry(f"user{number}@server.test") for number in range(count)]


def after(entry: QueueEntry, result: Any) -> QueueEntry:
    """What storage hands out after a deferral."""
    return replace(entry, source=result.keeps, attempts=entry.attempts + 1)


def greylist(needed: int) -> Callable[[Visit, str], str]:
    """Refuse each new client and recipient so many times."""
    seen: Counter[tuple[str, str]] = Counter()

    def answer(visit: Visit, line: str) -> str:
        seen[(visit.peer, line)] += 1
        return "250 ok" if seen[(visit.peer, line)] > needed else "450 4.7.1 greylisted"

    return answer


async def test_attempts_at_a_greylisting_server_come_from_one_source_over_workers_and_restarts() -> None:
    """The second attempt gets through, with four sources, in a relay of its own each time."""
    async with MailServer(*OFFERS, RCPT=greylist(1)) as server:
        for number in range(12):
            sources = []
            entry: QueueEntry | None = None
            for order in (FOUR, FOUR[::-1]):
                world = world_of(*order)
                fresh = world.entry(f"user{number}@server.test")
                entry = fresh if entry is None else replace(entry, trace=fresh.trace)
                carried = await world.carry(entry, way=server.way())
                await world.close()
                sources.append(carried.only.source)
                entry = after(entry, carried.only)
            assert sources[0] == sources[1] and carried.fates == [Fate.RELAYED]
    assert {visit.peer for visit in server.visits} == set(FOUR), "messages are spread over all"


async def test_a_changed_list_does_not_move_a_message_that_waits() -> None:
    async with MailServer(*OFFERS, RCPT=greylist(1)) as server:
        for number in range(12):
            one = world_of(FOUR[0], FOUR[1])
            first = await one.carry(entry := one.entry(f"user{number}@server.test"), way=server.way())
            await one.close()
            other = world_of(*FOUR)
            other.spool.messages = one.spool.messages
            second = await other.carry(after(entry, first.only), way=server.way())
            await other.close()
            assert first.only.source == second.only.source and second.fates == [Fate.RELAYED]
            assert second.only.moved is None


async def test_a_source_that_went_from_the_list_moves_its_messages_with_a_reason() -> None:
    world = world_of(*FOUR[1:])
    async with MailServer(*OFFERS) as server:
        carried = await world.carry(replace(world.entry(), source=FOUR[0]), way=server.way())
        await world.close()
    assert carried.only.source in FOUR[1:]
    assert carried.only.moved == f"{FOUR[0]} is no source any more (outbound.source)"


async def test_each_source_says_ehlo_by_its_own_name() -> None:
    sources = (EgressSource(ip_address(FOUR[0]), "out1.client.test"), EgressSource(ip_address(FOUR[1])))
    world = World(sources=sources)
    async with MailServer(*OFFERS) as server:
        await world.carry(*names(world, 12), way=server.way())
        await world.close()
    said = {visit.peer: visit.lines[0] for visit in server.visits}
    assert said == {FOUR[0]: "EHLO out1.client.test", FOUR[1]: "EHLO client.test"}


async def test_no_idle_connection_of_another_source_is_used() -> None:
    world = world_of(*FOUR, max_connections_per_destination=1)
    async with MailServer(*OFFERS) as server:
        carried = await world.carry(*names(world, 40), way=server.way())
        again = await world.carry(*names(world, 40), way=server.way())
        await world.close()
    assert carried.fates + again.fates == [Fate.RELAYED] * 80
    chosen = {str(result.entry.recipients[0].address): result.source for result in carried.results + again.results}
    assert set(chosen.values()) == set(FOUR)
    assert [server.visits[one.visit].peer for one in server.taken] == [
        chosen[one.recipients[0]] for one in server.taken
    ]
    assert len(server.visits) == 4, "and each source uses its own connection again"


async def test_all_sources_together_keep_the_ceiling_of_a_destination() -> None:
    world = world_of(*FOUR, max_connections_per_destination=3)
    async with MailServer(*OFFERS) as server:
        carried = await world.carry(*names(world, 80), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED] * 80
    assert server.most_open <= 5, (
        "one of each source, idle ones included; the server may see the end of one after the next begins"
    )


def refuses(*peers: str) -> Callable[[Visit, str], str]:
    return lambda visit, _: "554 5.7.1 not from you" if visit.peer in peers else "220 mx.test"


async def test_a_source_that_a_server_refuses_holds_up_its_own_messages_alone() -> None:
    world = world_of(*FOUR)
    entries = names(world, 60)
    async with MailServer(*OFFERS, GREETING=refuses(FOUR[2])) as server:
        carried = await world.carry(*entries, way=server.way())
        await world.close()
    by_source = {fate: [] for fate in Fate}
    for result in carried.results:
        by_source[result.results[0].fate].append(result)
    assert by_source[Fate.RELAYED] and len(by_source[Fate.DEFERRED]) + len(by_source[Fate.RELAYED]) == 60
    assert {result.source for result in by_source[Fate.RELAYED]} == {FOUR[0], FOUR[1], FOUR[3]}
    assert carried.failure is None
    assert len([visit for visit in server.visits if visit.peer == FOUR[2]]) == 1, "one attempt speaks for all of it"
    assert {str(result.results[0].reply) for result in by_source[Fate.DEFERRED]} == {"554 5.7.1 not from you"}
    assert carried.parting.not_before == 0, "the others need not wait"


async def test_a_destination_that_refuses_all_sources_is_left_alone_as_a_whole() -> None:
    world = world_of(*FOUR)
    async with MailServer(*OFFERS, GREETING=refuses(*FOUR)) as server:
        carried = await world.carry(*names(world, 60), way=server.way())
        await world.close()
    assert len(server.visits) <= len(FOUR), "one attempt for each source at most"
    assert carried.failure is not None and not carried.failure.permanent
    assert len(carried.results) == len(server.visits), "the queue counts the failure for the others"


async def test_the_pace_of_one_source_is_not_that_of_another() -> None:
    """A source whose connections are dropped is left alone; the decision says so, and the others grow on."""
    world = world_of(*FOUR)

    def drops(visit: Visit, _: str) -> str:
        return CLOSE if visit.peer == FOUR[0] else "250 ok"

    async with MailServer(*OFFERS, CONTENT=drops) as server:
        carried = await world.carry(*names(world, 80), way=server.way())
        await world.close()
    pacing = {each.source: each for each in carried.parting.pacing}
    assert set(pacing) == set(FOUR)
    assert pacing[FOUR[0]].connections == 0 and pacing[FOUR[0]].reason == "left alone"
    assert all(pacing[name].connections >= 2 and pacing[name].reason in ("growing", "beginning") for name in FOUR[1:])
    relayed = [result for result in carried.results if result.results[0].fate is Fate.RELAYED]
    assert {result.source for result in relayed} == set(FOUR[1:])


async def test_a_source_that_rests_is_not_tried_by_the_next_round_while_others_get_through() -> None:
    world = world_of(*FOUR[:2])
    async with MailServer(*OFFERS, GREETING=refuses(FOUR[0])) as server:
        for _ in range(3):  # time in trouble makes the pause longer than nothing
            await world.carry(*names(world, 30), way=server.way())
            world.now += 10 * 60_000_000
        before = len([visit for visit in server.visits if visit.peer == FOUR[0]])
        await world.carry(*names(world, 30), way=server.way())
        world.now += 1_000_000
        entries = [entry for entry in names(world, 30) if world.relay._sources.of(entry, {4}).name == FOUR[1]]
        late = [replace(entry, next_attempt=world.now) for entry in (*entries[:1], *names(world, 30))]
        carried = await world.carry(*late, way=server.way())
        await world.close()
    assert len([visit for visit in server.visits if visit.peer == FOUR[0]]) == before + 1
    words = {one.problem for result in carried.results for one in result.results if one.fate is Fate.DEFERRED}
    assert words == {f"{FOUR[0]} has been refused here lately, and is left alone for a while"}


async def test_a_source_that_this_machine_lacks_gives_its_messages_to_the_others_with_a_reason() -> None:
    world = world_of(FOUR[0], GONE, FOUR[1])
    async with MailServer(*OFFERS) as server:
        carried = await world.carry(*names(world, 40), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED] * 40
    moved = [result.moved for result in carried.results if result.moved is not None]
    assert moved and set(moved) == {f"{GONE} is no address of this machine"}
    assert {visit.peer for visit in server.visits} == set(FOUR[:2])


async def test_where_this_machine_lacks_all_sources_mail_waits_and_the_operator_is_told() -> None:
    world = world_of(GONE, "203.0.113.9")
    async with MailServer(*OFFERS) as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.DEFERRED] and not server.visits
    assert "(outbound.source) is no address of this machine" in carried.words[0]


async def test_a_family_without_a_source_is_not_tried_and_the_other_is() -> None:
    world = world_of(*FOUR)
    async with MailServer(*OFFERS) as server:
        six = replace_address(server, "::1")
        carried = await world.carry(world.entry(), way=NextHops((six, server.place())))
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.source in FOUR


def replace_address(server: MailServer, address: str) -> Any:
    return dataclasses.replace(server.place(), address=ip_address(address))


async def test_a_message_that_waits_asks_a_server_of_its_sources_family_first_among_equals() -> None:
    world = world_of(FOUR[0], "::1")
    async with MailServer(*OFFERS) as four, MailServer(*OFFERS, address="::1") as six:
        way = NextHops((six.place("six.test"), four.place("four.test")))
        first = await world.carry(world.entry(), way=way)
        kept = await world.carry(replace(world.entry("eve@server.test"), source=FOUR[0]), way=way)
        await world.close()
    assert (first.only.source, kept.only.source) == ("::1", FOUR[0])
    assert kept.only.moved is None


async def test_a_better_server_comes_before_one_of_the_sources_family() -> None:
    world = world_of(FOUR[0], "::1")
    async with MailServer(*OFFERS) as four, MailServer(*OFFERS, address="::1") as six:
        backup = dataclasses.replace(four.place("four.test"), rank=20)
        carried = await world.carry(
            replace(world.entry(), source=FOUR[0]), way=NextHops((six.place("six.test"), backup))
        )
        await world.close()
    assert carried.only.source == "::1" and carried.only.moved == f"no server took a connection from {FOUR[0]}"


async def test_while_a_source_is_refused_a_neighbours_mail_from_another_source_leaves() -> None:
    """Many messages of the refused source are due before the neighbour's."""
    world = world_of(*FOUR[:2])
    entries = names(world, 200)
    refused = [entry for entry in entries if world.relay._sources.of(entry, {4}).name == FOUR[0]]
    neighbour = next(entry for entry in entries if world.relay._sources.of(entry, {4}).name == FOUR[1])
    async with MailServer(*OFFERS, GREETING=refuses(FOUR[0])) as server:
        carried = await world.carry(*refused[:15], neighbour, *refused[15:], way=server.way())
        await world.close()
    [relayed] = [result for result in carried.results if result.results[0].fate is Fate.RELAYED]
    assert relayed.entry is neighbour
    assert len(server.visits) == 2


async def test_a_carry_that_is_cancelled_gives_back_what_waits_for_another_source() -> None:
    world = world_of(*FOUR)
    async with MailServer(*OFFERS, GREETING=STALL) as server:
        source = Source()
        source.due.extend(names(world, 30))
        world.ways["server.test"] = server.way()
        task = asyncio.create_task(world.relay.carry("server.test", source))
        await server.until(lambda: server.visits)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not source.in_flight and len(source.due) == 30
        await world.close()


def never(*peers: str) -> Callable[[Visit, str], str]:
    return lambda visit, _: "521 5.3.2 no mail here" if visit.peer in peers else "220 mx.test"


async def test_a_host_that_never_takes_mail_from_one_source_returns_nothing_while_another_gets_through() -> None:
    world = world_of(*FOUR[:2])
    async with MailServer(*OFFERS, GREETING=never(FOUR[0])) as server:
        carried = await world.carry(*names(world, 30), way=server.way())
        await world.close()
    assert set(carried.fates) == {Fate.RELAYED, Fate.DEFERRED} and carried.failure is None
    statuses = {one.status for result in carried.results for one in result.results if one.fate is Fate.DEFERRED}
    assert statuses == {"4.3.2"}


async def test_a_host_that_never_takes_mail_from_any_source_returns_it() -> None:
    world = world_of(*FOUR[:2])
    async with MailServer(*OFFERS, GREETING=never(*FOUR[:2])) as server:
        carried = await world.carry(*names(world, 30), way=server.way())
        await world.close()
    assert carried.failure is not None and carried.failure.permanent and set(carried.fates) == {Fate.FAILED}
