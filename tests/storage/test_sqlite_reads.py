"""Reads never hold the event loop: long ones run in another thread, or come in pages between which others have a turn.

Rows are counted, not time: `Rows` adds up what the loop's own thread reads between two of its turns.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import apsw
import pytest
from tests.storage.letters import LEASE, START, Engine, Letters, leases

from waypost.queue.clock_repair import pull_back
from waypost.storage import Filter, Storage
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.reading import Reading

MANY = 6000
MOST = 2000
"""Rows that one turn may read."""
DESTINATION = "dead.test"


class Rows:
    """Counts the rows that the loop reads in each of its turns, and its turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self.turns = self._now = 0
        self._counting = False
        loops = threading.get_ident()
        ask = Reading._ask

        def counted(reading: Reading, sql: str, values: Any, take: Callable[[Any], Any]) -> Any:
            found = ask(reading, sql, values, take)
            if threading.get_ident() == loops:
                self._now += len(found) if isinstance(found, list) else 1
            return found

        monkeypatch.setattr(Reading, "_ask", counted)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count; one more callback runs in each turn."""
        loop = asyncio.get_running_loop()

        def turn() -> None:
            self.most, self._now = max(self.most, self._now), 0
            self.turns += 1
            if self._counting:
                loop.call_soon(turn)

        self._now, self._counting = 0, True
        loop.call_soon(turn)
        try:
            yield
        finally:
            self._counting = False
            self.most = max(self.most, self._now)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    return Rows(monkeypatch)


@pytest.fixture
async def full(engine: Engine) -> AsyncIterator[SqliteStorage]:
    """A storage with much of everything."""
    letters = Letters((await engine.open()).storage, engine.clock)
    bob = await letters.account()
    await letters.post(to=[f"a@{DESTINATION}", "a@other.test"], mailboxes=[bob.inbox], message_id="<1@x.test>")
    await engine.close()
    with apsw.Connection(str(engine.data / DATABASE)) as database:
        run = database.execute
        count = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) "
        run(
            count + "INSERT INTO mailbox_message SELECT mailbox, uid + i, message, head, size, internal_date, modseq, "
            "flags FROM mailbox_message, n"
        )
        run(
            count + "INSERT INTO entry (message, destination, recipients, queued_at, next_attempt) "
            "SELECT message, destination, recipients, queued_at, next_attempt FROM entry, n "
            f"WHERE destination = '{DESTINATION}'"
        )
        run(count + "INSERT INTO journal (message, time, events) SELECT message, time, events FROM journal, n")
        run(
            count + "INSERT INTO message_name (message_id, message) SELECT message_id, message + i FROM message_name, n"
        )
        run(count + "INSERT INTO alias (address, targets) SELECT 'a' || i, '[]' FROM n")
        run(
            count
            + "INSERT INTO account (address, argon2, salt, iterations, stored_key, server_key, quota, created_at, "
            "inbox) SELECT 'a' || i, argon2, salt, iterations, stored_key, server_key, quota, created_at, inbox "
            "FROM account, n"
        )
        run(count + "INSERT INTO destination (name, wake) SELECT 'd' || i, 0 FROM n")
        run(f"UPDATE mailbox SET uidnext = {MANY + 9}")
    database.close()
    yield await engine.open()


async def every(found: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in found]


async def events(storage: Storage) -> list[Any]:
    first, *_ = await storage.journal.find_message_id("<1@x.test>")
    return await storage.journal.of(first)


async def overdue(storage: Storage) -> list[Any]:
    found, after = [], None
    while True:
        page = await storage.queue.overdue(DESTINATION, now=START + LEASE, notice=1, expire=2, after=after)
        found += page.entries
        after = page.after
        if after is None:
            return found
        await asyncio.sleep(0)


READS: dict[str, tuple[Callable[[Storage], Awaitable[Any]], int]] = {
    "a mailbox": (lambda storage: storage.mailboxes.messages(1), MANY + 1),
    "a mailbox in pages": (lambda storage: every(storage.mailboxes.pages(1)), 1),
    "all entries": (lambda storage: every(storage.queue.entries(Filter(), now=START)), MANY + 2),
    "the entries of a destination": (
        lambda storage: every(storage.queue.entries(Filter(domain=DESTINATION), now=START)),
        MANY + 1,
    ),
    "what is overdue": (overdue, MANY + 1),
    "how many entries match": (lambda storage: storage.queue.count(Filter(error="x"), now=START), 0),
    "the figures": (lambda storage: storage.queue.stats(now=START), 0),
    "accounts": (lambda storage: storage.directory.accounts(), MANY + 1),
    "aliases": (lambda storage: storage.directory.aliases(), MANY),
    "events": (lambda storage: events(storage), MANY + 1),
    "messages by name": (lambda storage: storage.journal.find_message_id("<1@x.test>"), MANY + 1),
    "claims": (lambda storage: leases(storage.queue, 1, limit=500), 500),
    "a step of the clock": (
        lambda storage: pull_back(storage.queue, now=START, waits=[LEASE], longest_lease=LEASE, sleep=asyncio.sleep),
        0,
    ),
}


@pytest.mark.parametrize("what", READS)
async def test_no_turn_of_the_loop_reads_more_than_a_page(full: SqliteStorage, rows: Rows, what: str) -> None:
    read, least = READS[what]
    with rows.counting():
        found = await read(full.storage)
    assert rows.most <= MOST
    assert rows.turns > 1 or rows.most == 0, "others had a turn, or the loop read nothing: another thread did"
    if least:
        assert len(found) >= least


async def test_whoever_changes_flags_waits_for_a_page_and_not_for_a_mailbox(full: SqliteStorage) -> None:
    """A neighbour comes to its end between any two pages: it changes flags, and a message is delivered to it."""
    storage = full.storage
    carol = await storage.directory.add_account(
        "carol@builder.test", (await storage.directory.accounts())[0].credentials, quota=0, now=START
    )
    letters = Letters(storage, lambda: START, 7)
    served = 0
    uids = []
    async for page in storage.mailboxes.pages(1):
        uids += [message.uid for message in page]
        await letters.post(mailboxes=[carol.inbox])
        await storage.mailboxes.set_flags(carol.inbox, [1], frozenset({f"page{served}"}))
        served += 1
    assert served > 5 and uids == list(range(1, MANY + 2))
    assert (await storage.mailboxes.messages(carol.inbox))[0].flags == {f"page{served - 1}"}


async def test_a_loader_and_whoever_changes_flags_take_turns(full: SqliteStorage) -> None:
    """Both run free: flags are changed while a mailbox is loaded again and again."""
    changed = asyncio.Event()
    loads = 0

    async def load() -> None:
        nonlocal loads
        while not changed.is_set():
            assert len(await full.storage.mailboxes.messages(1)) == MANY + 1
            loads += 1

    loading = asyncio.create_task(load())
    for number in range(30):
        await full.storage.mailboxes.set_flags(1, [MANY + 1], frozenset({f"f{number}"}))
    assert loads < 30, "no change waited for a whole mailbox"
    changed.set()
    await loading


async def test_what_is_read_beside_the_loop_sees_what_was_committed_before(full: SqliteStorage) -> None:
    storage = full.storage
    for number in range(3):
        assert await storage.queue.count(Filter(domain="new.test"), now=START) == number
        await Letters(storage, lambda: START, 10 + number).post(to=["a@new.test"])


async def test_a_storage_closes_while_somebody_reads_beside_it(engine: Engine, full: SqliteStorage) -> None:
    counting = asyncio.create_task(full.storage.queue.stats(now=START))
    await asyncio.sleep(0)
    await engine.close()
    assert (await counting).entries == MANY + 2
    assert not [one for one in threading.enumerate() if one.name.startswith("waypost-reading")]
