"""One account, one backlog, one outage: whatever hangs, mail of others leaves meanwhile. Everything is an event here;
no time is measured.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from tests.queue.world import SECOND, START, ScriptedCarrier, World

from waypost.delivery.resolve import LOCAL_DESTINATION
from waypost.queue.carrier import CarryResult, EntrySource
from waypost.queue.dispatcher import Dispatcher
from waypost.storage import Notice

MALLORY, BOB = "mallory@wonderland.test", "bob@wonderland.test"
PLACES = 20
"""Five hundred in a worker."""
MANY = 60
"""More hanging domains than there are places, by as much as 560 are more than 500, and more."""


@dataclass
class Hanging(ScriptedCarrier):
    """Destinations called `hang…` hang until their gate is open; all others are delivered to."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    at_work: set[str] = field(default_factory=set)
    most: int = 0
    hung: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)

    async def carry(self, destination: str, source: EntrySource) -> CarryResult:
        self.at_work.add(destination)
        self.most = max(self.most, len(self.at_work))
        try:
            if destination.startswith("hang"):
                self.hung.put_nowait(destination)
                await self.open.wait()
            return await super().carry(destination, source)
        finally:
            self.at_work.discard(destination)


@pytest.fixture
def carrier(world: World) -> Hanging:
    return Hanging(world.clock)


Start = Callable[..., Dispatcher]


@pytest.fixture
def start(world: World, carrier: Hanging) -> Start:
    def start(**more: object) -> Dispatcher:
        return world.dispatcher(carrier, most_destinations=PLACES, apart=(LOCAL_DESTINATION,), **more)

    return start


async def flood(world: World, count: int = MANY, account: str = MALLORY) -> None:
    for number in range(count):
        await world.submit(f"x@hang{number}.test", account=account)


async def hang(carrier: Hanging, count: int) -> None:
    for _ in range(count):
        await carrier.hung.get()


SHARE = 8  # of one account alone with fresh mail or retries: (20 - 5) / 2


async def test_while_one_account_has_many_hanging_domains_mail_of_another_leaves(
    world: World, carrier: Hanging, start: Start
) -> None:
    await flood(world)
    start()
    await hang(carrier, SHARE)
    await world.submit("carol@friends.test", account=BOB)
    assert (await carrier.attempts.get()).entry.destination == "friends.test"
    assert len(carrier.at_work) <= PLACES // 2 and carrier.hung.empty()


async def test_fresh_mail_that_floods_a_running_worker_takes_no_more_than_its_share(
    world: World, carrier: Hanging, start: Start
) -> None:
    dispatcher = start()
    await flood(world)
    await hang(carrier, SHARE)
    await world.submit("carol@friends.test", account=BOB)
    await carrier.attempts.get()
    assert dispatcher._admission.held(MALLORY) <= PLACES // 2


async def test_five_such_accounts_leave_places_for_the_sixth(world: World, carrier: Hanging, start: Start) -> None:
    for number in range(5):
        await flood(world, 20, account=f"mallory{number}@wonderland.test")
    start()
    await world.submit("carol@friends.test", account=BOB)
    assert (await carrier.attempts.get()).entry.destination == "friends.test"
    assert len(carrier.at_work) < PLACES


async def test_what_waits_for_a_place_gets_one_when_another_is_left_and_all_is_carried_once(
    world: World, carrier: Hanging, start: Start
) -> None:
    await flood(world)
    start()
    await hang(carrier, SHARE)
    carrier.open.set()
    names = set()
    while len(names) < MANY:
        result = asyncio.create_task(carrier.attempts.get())
        while not result.done():
            await asyncio.wait({result}, timeout=0.01)
            world.clock.advance(1)  # those that were turned away come when it is their turn
        names.add(result.result().entry.destination)
    assert carrier.most <= PLACES // 2 and carrier.attempts.empty()
    assert await world.waiting() == []


async def test_local_mail_needs_no_place(world: World, carrier: Hanging, start: Start) -> None:
    start(answered=lambda name: True)
    for number in range(PLACES * 2):  # every place is taken
        await world.submit(f"x@hang{number}.test", account=f"account{number}@wonderland.test")
    await hang(carrier, PLACES)
    await world.submit("bob@here.test", destination=LOCAL_DESTINATION)
    assert (await carrier.attempts.get()).entry.destination == LOCAL_DESTINATION


async def test_local_mail_that_is_due_later_is_found_though_all_places_are_taken(
    world: World, carrier: Hanging, start: Start
) -> None:
    await world.submit("bob@here.test", destination=LOCAL_DESTINATION, next_attempt=START + 40 * SECOND)
    start(answered=lambda name: True)
    for number in range(PLACES * 2):
        await world.submit(f"x@hang{number}.test", account=f"account{number}@wonderland.test")
    await hang(carrier, PLACES)
    for _ in range(2):
        await world.clock.somebody_sleeps(30.0)
        world.clock.advance(30)
    assert (await carrier.attempts.get()).entry.destination == LOCAL_DESTINATION


async def test_some_places_are_kept_for_destinations_that_answered_lately(
    world: World, carrier: Hanging, start: Start
) -> None:
    for number in range(PLACES * 2):
        await world.submit(f"x@hang{number}.test", account=f"account{number}@wonderland.test")
    start(answered=lambda name: name == "friends.test")
    await hang(carrier, PLACES - PLACES // 4)
    await world.submit("carol@friends.test", account=BOB)
    assert (await carrier.attempts.get()).entry.destination == "friends.test"


async def test_a_destination_that_waits_in_the_share_of_one_goes_at_once_when_another_writes_there(
    world: World, carrier: Hanging, start: Start
) -> None:
    await flood(world, SHARE)
    start()
    await hang(carrier, SHARE)
    await world.submit("carol@friends.test", account=MALLORY)
    await world.queue.done("due")
    await world.submit("dora@friends.test", account=BOB)
    first = await carrier.attempts.get()
    assert first.entry.destination == "friends.test"


async def test_a_destination_that_was_turned_away_goes_at_once_when_another_writes_there(
    world: World, carrier: Hanging, start: Start
) -> None:
    dispatcher = start()
    await flood(world)
    await hang(carrier, SHARE)
    away = dispatcher._admission._turned_away
    while not away:
        await world.queue.done("release")
    name = next(reversed(away))
    await world.submit(f"dora@{name}", account=BOB)
    while await carrier.hung.get() != name:
        pass
    assert name not in away


async def test_retries_of_others_are_found_behind_a_backlog(world: World, carrier: Hanging, start: Start) -> None:
    await flood(world, 100)
    await world.submit("carol@friends.test", account=BOB)
    world.bus.deaf = True  # nobody says that it is there
    start()
    found = asyncio.create_task(carrier.attempts.get())
    while not found.done():
        await asyncio.wait({found}, timeout=0.01)
        world.clock.advance(0.5)
    assert found.result().entry.destination == "friends.test"


async def test_fresh_mail_is_found_at_once_though_a_flood_of_fresh_mail_came_before_it(
    world: World, carrier: Hanging, start: Start
) -> None:
    """All notices come at once, more than there are places; the clock stands still."""
    start()
    await world.clock.somebody_sleeps(30.0)
    world.bus.deaf = True
    await flood(world)
    await world.submit("carol@friends.test", account=BOB)
    world.bus.deaf = False
    for name in (*(f"hang{number}.test" for number in range(MANY)), "friends.test"):
        world.bus.publish(Notice("destination", name))
    assert (await carrier.attempts.get()).entry.destination == "friends.test"


async def test_a_backlog_that_hangs_is_looked_at_now_and_then_only(
    world: World, carrier: Hanging, start: Start
) -> None:
    await flood(world, 100)
    start()
    await hang(carrier, SHARE)
    for _ in range(300):
        await asyncio.sleep(0)
    before = world.queue.counts["due"]
    for _ in range(600):  # a minute, in steps of a tenth of a second
        world.clock.advance(0.1)
        for _ in range(20):
            await asyncio.sleep(0)
    assert world.queue.counts["due"] - before < 60 * 60
    assert len(carrier.at_work) == SHARE


async def test_who_waits_for_a_place_does_not_hold_up_the_end(world: World, carrier: Hanging, start: Start) -> None:
    await flood(world)
    dispatcher = start()
    await hang(carrier, SHARE)
    carrier.open.set()
    await dispatcher.stop(30.0)
    assert not dispatcher._sources and not dispatcher._admission._waiting
    assert dispatcher._admission._places.taken == 0
