"""What the queue keeps of sources: from where an entry was tried, and how its destination was paced."""

import pytest
from msgspec.structs import replace
from tests.storage.letters import LEASE, START, Engine, Letters, deferral, finished, leases

from waypost.storage import Lease, Pacing, Storage

BOB = "bob@builder.test"
PACING = (
    Pacing("192.0.2.1", "hoster.test", 0, "left alone", START, START + 5),
    Pacing("192.0.2.2", "hoster.test", 7, "growing", START),
)


async def test_a_deferred_entry_keeps_its_source(storage: Storage, letters: Letters) -> None:
    await letters.post(to=[BOB])
    (entry,) = await letters.due("builder.test")
    assert entry.source is None
    for source in ("192.0.2.1", "2001:db8::1", None):
        kept = replace(deferral(entry, START), source=source)
        await storage.queue.settle([finished(entry, deferral=kept)])
        assert (await storage.queue.get(entry.id)).source == source
        assert [each.source for each in await letters.due("builder.test")] == [source]


async def test_the_source_survives_a_new_start(engine: Engine, storage: Storage, letters: Letters) -> None:
    await letters.post(to=[BOB])
    (entry,) = await letters.due("builder.test")
    await storage.queue.settle([finished(entry, deferral=replace(deferral(entry, START), source="192.0.2.1"))])
    await engine.close()
    again = (await engine.open()).storage
    assert (await again.queue.get(entry.id)).source == "192.0.2.1"


async def test_the_pace_of_a_destination_is_kept_while_something_waits(storage: Storage, letters: Letters) -> None:
    queue = storage.queue
    await letters.post(to=[BOB])
    assert await queue.pacing("builder.test") == []
    (lease,) = await leases(queue, 1)
    await queue.note_pacing({lease: PACING[:1], Lease("nobody.test", lease.epoch): PACING})
    assert await queue.pacing("builder.test") == list(PACING[:1])
    await queue.note_pacing({lease: ()})
    assert await queue.pacing("builder.test") == list(PACING[:1]), "nothing was said"
    await queue.release([lease], pacing=PACING)
    assert await queue.pacing("builder.test") == list(PACING)
    await queue.release(await leases(queue, 1))
    assert await queue.pacing("builder.test") == list(PACING), "nothing new was said"
    (lease,) = await leases(queue, 1)
    (entry,) = await queue.due(lease, now=START, limit=9)
    await queue.settle([finished(entry)])
    await queue.release([lease], pacing=PACING)
    assert await queue.pacing("builder.test") == [], "a destination for which nothing waits is forgotten"
    assert await queue.pacing("nobody.test") == []


@pytest.mark.parametrize("heir", [2, 1])
async def test_a_lost_lease_notes_no_pace(storage: Storage, letters: Letters, heir: int) -> None:
    queue = storage.queue
    await letters.post(to=[BOB])
    (old,) = await leases(queue, 1)
    (new,) = await leases(queue, heir, now=START + LEASE + 1)
    await queue.note_pacing({new: PACING[:1]})
    await queue.note_pacing({old: PACING})
    await queue.release([old], pacing=PACING)
    assert await queue.pacing("builder.test") == list(PACING[:1])
    await queue.note_pacing({old: PACING, new: PACING[1:]})
    assert await queue.pacing("builder.test") == list(PACING[1:])


async def test_a_deferral_under_a_lost_lease_moves_no_entry_to_another_source(
    storage: Storage, letters: Letters
) -> None:
    queue = storage.queue
    await letters.post(to=[BOB])
    (old,) = await leases(queue, 1)
    (entry,) = await queue.due(old, now=START, limit=9)
    (new,) = await leases(queue, 2, now=START + LEASE + 1)
    await queue.settle([finished(entry, deferral=replace(deferral(entry, START), source="192.0.2.1"))])
    assert [one.source for one in await queue.due(new, now=START, limit=9)] == [None]
