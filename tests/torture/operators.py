"""Mistakes of operators by the dozen: a storage lives, its operator does something to its data directory, and it is
started again.

It refuses, with a message that says what to do, and has changed nothing; or it goes on. Either way each record that lay
in the data directory lies there still, after the housekeeping too; no UID names another message than before; what waits
in a restored queue is held. Then the operator restores a backup, and everything of its time is there.
"""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import apsw
from tests.storage.letters import Clock, Letters, octets_of
from tests.torture.keeper import CREDENTIALS, Keeper
from tests.torture.mistakes import MISTAKES, Reserve

from waypost.message.trace import TraceId
from waypost.storage import Account, Filter, StorageError
from waypost.storage.sqlite import DATABASE, SqliteStorage, open_storage
from waypost.storage.sqlite.backup.octets import Progress
from waypost.storage.sqlite.backup.restoring import find_source, restore
from waypost.storage.sqlite.backup.taking import take_backup
from waypost.storage.sqlite.salvage.records import records_of
from waypost.storage.sqlite.salvage.recovering import recover

WORDS = ("waypost restore", "waypost storage accept", "waypost storage recover", "put ")
"""A refusal has one of these: what to do."""

_KEEPER = "keeper@builder.test"
_SECOND = 1_000_000
_SEGMENT = 100_000
_THRESHOLD = 64 << 10
_SIZES = (30, 500, 3_000, 3_000, 10_000, 90_000, 200_000)


class MistakePunished(AssertionError):
    """A mistake cost something. The message says which, and what."""


@dataclass
class OperatorFigures:
    """What a torture of this kind amounts to."""

    mistakes: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    went_on: int = 0
    noticed: int = 0  # as a restore
    records: int = 0  # that had to be there still
    visits: int = 0  # of mail programs that leave mail on the server
    backups: int = 0
    recovered: int = 0  # messages that `storage recover` brought out


class _Show:
    """Shows nothing."""

    def __init__(self, what: str) -> None:
        pass

    def __enter__(self) -> Progress:
        return lambda done, total: None

    def __exit__(self, *error: object) -> None:
        pass


@dataclass
class OperatorTorture:
    """Mistakes on one host after another, each in a folder under `folder`."""

    folder: Path
    seed: int
    tell: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        self.figures = OperatorFigures()
        self._chance = random.Random(self.seed)
        self._clock = Clock()
        self._life = 0

    async def run(self, rounds: int) -> OperatorFigures:
        """Make each mistake so often. Raises `MistakePunished`."""
        for number in range(rounds):
            for name in MISTAKES:
                self._life += 1
                place = self.folder / f"{self._life:04}"
                place.mkdir(parents=True)
                try:
                    await Victim(self, place, name).suffer()
                except AssertionError as error:
                    raise MistakePunished(f"seed {self.seed}, mistake {self._life}, {name}: {error}") from error
                shutil.rmtree(place)
                self.figures.mistakes[name] += 1
            self.tell(f"round {number + 1} of {rounds}: {self.figures.refused} refused, {self.figures.went_on} went on")
        return self.figures


@dataclass
class Victim:
    """One host and its operator."""

    torture: OperatorTorture
    place: Path
    mistake: str

    def __post_init__(self) -> None:
        self.data = self.place / "data"
        self.chance = self.torture._chance
        self.clock = self.torture._clock
        self.figures = self.torture.figures
        self.keeper = Keeper(_KEEPER)
        self._makers = 0
        self.sent: dict[TraceId, bytes] = {}  # to the queue
        self.at_backup: dict[TraceId, bytes] = {}

    async def suffer(self) -> None:
        """Live, suffer the mistake, and be started again."""
        reserve = await self._grow_up()
        before = self._records()
        MISTAKES[self.mistake](self.data, reserve, self.chance)
        kept = {key: octets for key, octets in before.items() if key in self._records()}
        state = self._state()
        try:
            opened = await self._open(self.data)
        except StorageError as error:
            self.figures.refused += 1
            assert any(word in str(error) for word in WORDS), f"no advice: {error}"
            assert self._state() == state, "a refusal changed something"
        else:
            self.figures.went_on += 1
            await self._go_on(opened)
        found = self._records()
        lost = [key for key in kept if key not in found]
        self.figures.records += len(kept)
        assert not lost, f"{len(lost)} records are gone"
        self._recover(kept)
        await self._restore(reserve)

    # The time before.

    async def _open(self, data: Path, worker: int = 0) -> SqliteStorage:
        self.clock.time += _SECOND
        return await open_storage(
            data,
            now=self.clock,
            worker=worker,
            publish=lambda notice: None,
            memory_per_message=_THRESHOLD,
            segment_size=_SEGMENT,
            reserve=0,
        )

    def _letters(self, opened: SqliteStorage) -> Letters:
        self._makers += 1
        self.clock.time += _SECOND
        return Letters(opened.storage, self.clock, self._makers)

    async def _grow_up(self) -> Reserve:
        """Live for three days, and make copies after each of the first two."""
        reserve = Reserve(*(self.place / name for name in ("earlier.db", "earlier", "backups", "other")))
        await self._live(reserve.other, None)
        opened = await self._open(self.data)
        account = await opened.storage.directory.add_account(_KEEPER, CREDENTIALS, quota=0, now=self.clock())
        await self._day(opened, account)
        _vacuum(self.data / DATABASE, reserve.database)
        await self._day(opened, account)
        await opened.close()
        shutil.copytree(self.data, reserve.directory)
        opened = await self._open(self.data)
        await self._day(opened, account)
        self._backup(reserve)
        self.at_backup = dict(self.sent)
        await self._day(opened, account)
        await opened.close()
        return reserve

    async def _live(self, data: Path, account: Account | None) -> None:
        opened = await self._open(data)
        letters = self._letters(opened)
        await asyncio.gather(*(letters.post(self._octets(), to=["carol@elsewhere.test"]) for _ in range(8)))
        await opened.close()

    def _backup(self, reserve: Reserve) -> None:
        take_backup(self.data, reserve.backups, now=self.clock(), keep=1, quick=False, show=_Show)
        self.figures.backups += 1

    def _octets(self) -> bytes:
        return b"%032x\r\n" % self.chance.getrandbits(128) * (self.chance.choice(_SIZES) // 34 + 1)

    async def _day(self, opened: SqliteStorage, account: Account) -> None:
        """Mail comes in for the queue and the mailbox; the mailbox is read; some is deleted; the house is kept."""
        letters = self._letters(opened)
        for_others = [self._octets() for _ in range(self.chance.randint(4, 8))]
        traces = await asyncio.gather(
            *(letters.post(octets, to=["carol@elsewhere.test"], head=b"") for octets in for_others),
            *(letters.post(self._octets(), mailboxes=[account.inbox]) for _ in for_others),
        )
        self.sent.update(zip(traces, for_others, strict=False))
        await self._visit(opened)
        rows = await opened.storage.mailboxes.messages(account.inbox)
        await opened.storage.mailboxes.expunge(account.inbox, [row.uid for row in rows if self.chance.random() < 0.2])
        await opened.maintain(smallest=0)

    async def _visit(self, opened: SqliteStorage) -> list[bytes]:
        self.figures.visits += 1
        return await self.keeper.visit(opened.storage, self.clock())

    # The time after.

    def _records(self) -> dict[tuple[TraceId, bytes], Path]:
        """Return every record of a message in the data directory, by its trace id and its octets."""
        found = {}
        for path in self.data.rglob("*.seg*"):
            for record, octets in records_of(path):
                if not record.is_head:
                    found[record.trace, bytes(octets)] = path
        return found

    def _state(self) -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in self.data.rglob("*")
            if path.is_file() and path.suffix != ".lock" and not path.name.endswith("-shm") and path.stat().st_size
        }

    async def _go_on(self, opened: SqliteStorage) -> None:
        """The service goes on: no record goes, no UID is given twice, new mail comes and is fetched."""
        try:
            held = [e async for e in opened.storage.queue.entries(Filter(error="held since a restore"), now=0)]
            ready = [e async for e in opened.storage.queue.entries(Filter(), now=0) if e.state == "ready"]
            if held:
                self.figures.noticed += 1
                assert not ready, "some of a restored queue would leave again"
            for account in await opened.storage.directory.accounts():
                await self._visit_damaged(opened, account)
            for _ in range(3):
                await opened.maintain(smallest=0)
        finally:
            await opened.close()

    async def _visit_damaged(self, opened: SqliteStorage, account: Account) -> None:
        """What can't be read any more goes; then mail programs come, and miss nothing that is new."""
        unreadable = []
        for row in await opened.storage.mailboxes.messages(account.inbox):
            try:
                await octets_of(await opened.storage.mailboxes.open(row.mailbox, row.uid))
            except StorageError:
                unreadable.append(row.uid)
        await opened.storage.mailboxes.expunge(account.inbox, unreadable)
        await self._new_mail_is_fetched(opened, account)

    async def _new_mail_is_fetched(self, opened: SqliteStorage, account: Account) -> None:
        await self._visit(opened)
        letters = self._letters(opened)
        octets = [self._octets() for _ in range(3)]
        await asyncio.gather(*(letters.post(one, mailboxes=[account.inbox]) for one in octets))
        new = await self._visit(opened)
        assert len(new) == len(octets), f"{len(new)} of {len(octets)} new messages were fetched"
        assert all(any(one in two for two in new) for one in octets), "other messages were fetched"
        assert not await self._visit(opened), "something was fetched twice"

    def _recover(self, kept: dict[tuple[TraceId, bytes], Path]) -> None:
        """`storage recover` brings every record out that is there."""
        to = self.place / "recovered"
        done = recover(self.data, to, now=self.clock(), show=_Show)
        self.figures.recovered += done.messages + done.files
        found = {path.stem for path in (to / "messages").glob("*.eml")}
        assert len(found) == done.files
        if (to / DATABASE).exists():
            connection = apsw.Connection(str(to / DATABASE))
            known = {trace for (trace,) in connection.execute("SELECT id FROM message").fetchall()}
            connection.close()
        else:
            known = set()
        missing = {trace for trace, _ in kept} - known - {_trace(name) for name in found} - set(done.damaged)
        assert not missing, f"recover left {len(missing)} messages behind"

    async def _restore(self, reserve: Reserve) -> None:
        """The backup brings everything of its time back."""
        restore(find_source(reserve.backups, None), self.data, now=self.clock(), show=_Show)
        opened = await self._open(self.data)
        try:
            for trace, octets in self.at_backup.items():
                message = await opened.storage.spool.open(trace)
                assert await octets_of(message) == octets, f"message {trace} is not what was backed up"
            (account,) = await opened.storage.directory.accounts()
            await self._new_mail_is_fetched(opened, account)
        finally:
            await opened.close()


def _trace(name: str) -> TraceId:
    from waypost.message.trace import parse_trace_id

    return parse_trace_id(name)


def _vacuum(database: Path, to: Path) -> None:
    connection = apsw.Connection(str(database))
    try:
        connection.execute("VACUUM INTO ?", (str(to),)).fetchall()
    finally:
        connection.close()
