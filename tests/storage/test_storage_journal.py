"""The journal: what happened to each message, for as long as somebody may ask."""

import pytest
from tests.storage.letters import SECOND, START, Engine, Letters, finished

from waypost.journal import AttemptFailed, Event, Relayed, Station
from waypost.message.reply import Reply
from waypost.storage import Journal, Storage

DAY = 86_400 * SECOND


@pytest.fixture
def journal(storage: Storage) -> Journal:
    return storage.journal


async def settle(letters: Letters, destination: str, *events: Event) -> None:
    (entry,) = await letters.due(destination)
    await letters.storage.queue.settle([finished(entry, events=events)])


async def test_events_come_back_in_order_with_their_details(journal: Journal, letters: Letters) -> None:
    trace = await letters.post(to=["bob@builder.test"])
    details = AttemptFailed(recipients=("bob@builder.test",), reply=Reply(451, "4.3.0", ("Later \u2713", "or never")))
    events = [Event(trace, START + n, details) for n in range(3)]
    await settle(letters, "builder.test", *events)
    assert (await journal.of(trace))[1:] == events
    assert await journal.of(letters.ids()) == []


async def test_all_messages_with_a_message_id_are_found(journal: Journal, letters: Letters) -> None:
    first = await letters.post(to=["bob@builder.test"], message_id="<same@x>")
    await letters.post(to=["bob@builder.test"], message_id="<other@x>")
    second = await letters.post(to=["bob@builder.test"], message_id="<same@x>")
    assert await journal.find_message_id("<same@x>") == [first, second]
    assert await journal.find_message_id("<none@x>") == []


async def test_old_events_and_names_go_and_young_ones_stay(journal: Journal, letters: Letters) -> None:
    old = await letters.post(message_id="<old@x>")
    letters.clock.time += DAY
    young = await letters.post(message_id="<young@x>")
    assert await journal.expire(START + DAY) > 0
    assert await journal.of(old) == [] and await journal.find_message_id("<old@x>") == []
    assert len(await journal.of(young)) == 1 and await journal.find_message_id("<young@x>") == [young]
    assert await journal.expire(START + DAY) == 0


async def test_what_still_waits_in_the_queue_keeps_its_events(journal: Journal, letters: Letters) -> None:
    trace = await letters.post(to=["bob@builder.test"], message_id="<waits@x>")
    assert await journal.expire(START + DAY) == 0
    assert len(await journal.of(trace)) == 1 and await journal.find_message_id("<waits@x>") == [trace]
    await settle(letters, "builder.test")
    await journal.expire(START + DAY)
    assert await journal.of(trace) == [] and await journal.find_message_id("<waits@x>") == []


async def test_a_name_stays_while_events_of_its_message_are_left(journal: Journal, letters: Letters) -> None:
    trace = await letters.post(to=["bob@builder.test"], message_id="<slow@x>")
    await settle(letters, "builder.test", Event(trace, START + 2 * DAY, Relayed(recipients=())))
    await journal.expire(START + DAY)
    assert [event.station for event in await journal.of(trace)] == [Station.RELAYED]
    assert await journal.find_message_id("<slow@x>") == [trace]
    await journal.expire(START + 3 * DAY)
    assert await journal.find_message_id("<slow@x>") == []


async def test_no_more_than_the_limit_goes_at_once(journal: Journal, letters: Letters) -> None:
    for _ in range(5):
        await letters.post()
    assert [await journal.expire(START + DAY, limit=2) for _ in range(4)] == [2, 2, 1, 0]


async def test_housekeeping_drops_what_is_older_than_was_asked(engine: Engine) -> None:
    opened = await engine.open()
    letters = Letters(opened.storage, engine.clock)
    trace = await letters.post(message_id="<x@x>")
    engine.clock.time += 8 * DAY
    await opened.maintain(journal_age=9 * DAY)
    assert await opened.storage.journal.of(trace)
    await opened.maintain(journal_age=7 * DAY)
    assert await opened.storage.journal.of(trace) == []
