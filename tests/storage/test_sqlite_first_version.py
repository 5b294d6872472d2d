"""From a populated data directory of version 0.1.0 to today, and back by the snapshot (docs/operating.md)."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.storage import first_version as first
from tests.storage.first_version import BINARY, BOX_HEAD, HEAD, HELD, HELD_UNTIL, OCTETS, PLAIN, REPORT, SECOND, THEN
from tests.storage.letters import Clock, Engine, Letters, claim, leases, octets_of, stored

from waypost.journal import Station
from waypost.message.address import Address
from waypost.message.envelope import BodyType, DeliverBy, Envelope, Notify, OriginalRecipient, Recipient, Ret
from waypost.storage import Credentials, EntryState, Filter, NotFound, Spending
from waypost.storage.sqlite.opening.migrate import DATABASE, migrate, migrations
from waypost.storage.sqlite.upkeep.check import StorageChecker

LANDED = {
    1: "d2725f613370aaf0",
    2: "1af1485d87b52a6e",
    3: "3fe9892001147eeb",
    4: "3dc790172197c5a7",
    5: "4e797304d031aea9",
    6: "d50759aed4ebff07",
    7: "0c38c70fe9b3c4cd",
    8: "e23fc552b718dbbb",
    9: "cbf71e421130ed63",
}
"""The beginning of the SHA-256 of each schema change that has landed: it is never edited, another one follows it."""


@pytest.fixture
def old(engine: Engine) -> Engine:
    """An engine over a data directory of version 0.1.0."""
    if engine.name != "sqlite":
        pytest.skip("it is of the embedded engine")
    first.write(engine.data)
    engine.clock = Clock(THEN + 3600 * SECOND)
    return engine


def rows(path: Path, columns: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """Return the content of every table, in these columns or in those that it has."""
    database = apsw.Connection(str(path))
    try:
        found = {}
        for table in first.TABLES:
            names = (columns or {}).get(table) or [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            found[table] = (
                names,
                sorted(database.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall(), key=repr),
            )
        return found
    finally:
        database.close()


def test_a_schema_change_that_has_landed_is_never_edited() -> None:
    found = {number: hashlib.sha256(sql.encode()).hexdigest()[:16] for number, _, sql in migrations()}
    assert {number: found[number] for number in LANDED} == LANDED


def test_every_table_keeps_what_it_held_and_the_snapshot_is_the_old_database(old: Engine) -> None:
    before = rows(old.data / DATABASE)
    assert all(content for _, content in before.values()), "there is something in each"
    assert migrate(old.data) == len(migrations()) - 1
    columns = {table: names for table, (names, _) in before.items()}
    after = rows(old.data / DATABASE, columns)
    after["counter"] = (columns["counter"], [row for row in after["counter"][1] if row[0] != "lease"])
    assert after == before
    snapshot = old.data / "snapshots" / "schema-0001.db"
    assert rows(snapshot) == before
    assert [path.name for path in snapshot.parent.iterdir()] == ["schema-0001.db"], "and the copy for the trial is gone"
    assert (snapshot.stat().st_mode & 0o777, snapshot.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_the_queue_goes_on_as_it_waited(old: Engine) -> None:
    storage = (await old.open()).storage
    queue = storage.queue
    entries = {entry.trace: entry async for entry in queue.entries(Filter(), now=old.clock())}
    assert entries.keys() == {PLAIN, HELD, REPORT}
    plain = entries[PLAIN]
    assert plain.envelope == Envelope(
        Address("alice", "wonderland.test"),
        body=BodyType.EIGHT_BIT,
        smtputf8=True,
        size=4711,
        ret=Ret.HEADERS,
        envid="QQ314159",
        deliver_by=DeliverBy(THEN + 9, "N", True),
        priority=-4,
    )
    assert plain.recipients == (
        Recipient(
            Address("carol", "carpenter.test"),
            Notify.SUCCESS | Notify.FAILURE,
            OriginalRecipient("rfc822", "carol@elsewhere.test"),
        ),
        Recipient(Address("dave", "carpenter.test")),
    )
    told = (plain.attempts, plain.waited, plain.last_attempt, plain.last_error, plain.delay_notified, plain.priority)
    assert told == (2, 60 * SECOND, THEN + 1, "450 4.2.1 Busy", True, -4)
    assert plain.account == "bob@builder.test" and plain.not_before == 0
    assert entries[REPORT].envelope == Envelope(None) and entries[REPORT].state is EntryState.HELD
    assert (entries[HELD].not_before, entries[HELD].next_attempt) == (HELD_UNTIL, HELD_UNTIL)
    assert entries[HELD].envelope.hold_until == HELD_UNTIL
    for trace in (PLAIN, HELD, REPORT):
        assert await stored(storage.spool, trace) == OCTETS[trace]


async def test_a_lease_of_before_ends_and_the_next_has_an_epoch(old: Engine) -> None:
    queue = (await old.open()).storage.queue
    (lease,) = await leases(queue, 1, now=old.clock())
    assert (lease.destination, lease.epoch) == ("carpenter.test", 1)
    assert [entry.trace for entry in await queue.due(lease, now=old.clock(), limit=9)] == [PLAIN]


async def test_what_its_sender_holds_back_is_held_as_before(old: Engine) -> None:
    queue = (await old.open()).storage.queue
    (held,) = [entry async for entry in queue.entries(Filter(trace=HELD), now=old.clock())]
    await queue.hold([held.id], now=old.clock())
    await queue.unhold([held.id], now=old.clock())
    assert (await queue.get(held.id)).next_attempt == HELD_UNTIL
    assert "builder.test" not in await claim(queue, 1, now=HELD_UNTIL - 1)
    assert "builder.test" in await claim(queue, 1, now=HELD_UNTIL)


async def test_mailboxes_accounts_and_the_journal_are_as_they_were(old: Engine) -> None:
    storage = (await old.open()).storage
    mailboxes, directory = storage.mailboxes, storage.directory
    plain, binary = await mailboxes.messages(1)
    assert (plain.uid, plain.trace, plain.modseq, plain.flags) == (2, PLAIN, 4, {"\\Seen", "$Forwarded"})
    assert (binary.uid, binary.trace, binary.modseq, binary.flags) == (4, BINARY, 8, frozenset())
    for row, octets in ((plain, OCTETS[PLAIN]), (binary, HEAD.encode("latin-1") + OCTETS[BINARY])):
        found = await octets_of(await mailboxes.open(1, row.uid))
        assert found == BOX_HEAD.encode() + octets and row.size == len(found)
    inbox = await mailboxes.get(1)
    assert (inbox.uidvalidity, inbox.uidnext, inbox.highest_modseq) == (1795000000, 5, 9)
    assert [box.name for box in await mailboxes.all(1)] == ["INBOX", "Sent"]
    bob, carol = await directory.accounts()
    assert bob.credentials == Credentials("$argon2id$v=19$x", b"\1\2", 4096, b"\3\4", b"\5\6")
    assert (bob.quota, bob.disabled, bob.inbox, bob.usage) == (1000000, False, 1, plain.size + binary.size)
    assert carol.disabled and carol.quota == 0
    (alias,) = await directory.aliases()
    assert (alias.address, alias.targets) == ("all@builder.test", ("bob@builder.test", "carol@elsewhere.test"))
    hour, _ = await directory.spent("bob@builder.test", THEN + SECOND)
    assert hour == Spending(3, 5)
    assert [event.station for event in await storage.journal.of(PLAIN)] == [Station.SUBMITTED, Station.ATTEMPT]
    assert await storage.journal.find_message_id("<1@wonderland.test>") == [PLAIN]
    assert (await mailboxes.create(1, "New")).uidvalidity > 1795000002
    await Letters(storage, old.clock).post(mailboxes=[1])
    assert (await mailboxes.messages(1))[-1].uid == 5


async def test_nothing_is_wrong_with_what_was_migrated(old: Engine) -> None:
    await old.open()
    checker = StorageChecker(old.data)
    try:
        assert [problem.what for problem in checker.problems(lambda done, total: None)] == []
        assert checker.messages == len(OCTETS)
    finally:
        checker.close()


async def test_the_snapshot_is_the_way_back(old: Engine) -> None:
    """As the manual says: the service stops, and the snapshot is put in the place of the database."""
    before = rows(old.data / DATABASE)
    storage = (await old.open()).storage
    newer = await Letters(storage, old.clock).post(b"came later", mailboxes=[1])
    await old.close()
    aside = old.data.parent / "newer"
    aside.mkdir()
    for path in old.data.glob(f"{DATABASE}*"):
        path.rename(aside / path.name)
    shutil.copy2(old.data / "snapshots" / "schema-0001.db", old.data / DATABASE)
    assert rows(old.data / DATABASE) == before, "what version 0.1.0 opens is what it left"
    database = apsw.Connection(str(old.data / DATABASE))
    assert database.execute("PRAGMA user_version").get == 1
    assert database.execute("SELECT digest FROM unconfirmed").get == "00ff"
    database.close()
    assert (old.data / "segments" / "000000000001.seg").exists()

    again = (await old.open()).storage  # and once more to the newer one
    assert await stored(again.spool, PLAIN) == OCTETS[PLAIN]
    with pytest.raises(NotFound):
        await again.spool.open(newer)
    waiting = [entry async for entry in again.queue.entries(Filter(), now=old.clock())]
    assert {entry.trace for entry in waiting} == {PLAIN, HELD, REPORT}
    assert {entry.state for entry in waiting} == {EntryState.HELD}, "some of it may have left since"
