"""The inspection of a storage after a power loss: everything that the ledger says must be there is, and nothing else.

Then the storage must work: it takes new mail, does its housekeeping, and is clean.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import apsw
from tests.storage.letters import Letters, octets_of, stored
from tests.torture.ledger import Deed, Fact, Fate, Ledger, Place, Seen
from tests.torture.scribe import now, open_as

from waypost.message.trace import TraceId
from waypost.storage import Filter, MailboxMessage, QueueEntry, Storage, StorageError
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite.upkeep.check import StorageChecker

_INSPECTOR = 7  # the worker's number


@dataclass
class Inspection:
    """One image, looked at. `problems` says what is wrong, in words."""

    data: Path
    ledger: Ledger
    moment: int
    problems: list[str] = field(default_factory=list)
    entries: dict[Place, QueueEntry] = field(default_factory=dict)
    rows: dict[Place, MailboxMessage] = field(default_factory=dict)
    told: dict[TraceId, Counter[str]] = field(default_factory=dict)

    async def run(self) -> None:
        """Do all of it."""
        try:
            opened = await open_as(self.data, _INSPECTOR)
        except StorageError as error:
            self._wrong(f"it can't be opened: {error}")
            return
        try:
            await self._look(opened.storage)
            self._check_clean(harmless=True)
            await self._work(opened)
            self._check_clean(harmless=False)
        except apsw.Error as error:
            self._wrong(f"the database fails: {type(error).__name__}: {error}")
        finally:
            await opened.close()

    @property
    def found(self) -> set[Place]:
        """Where messages were found."""
        return {*self.entries, *self.rows}

    @property
    def attempts(self) -> dict[Place, int]:
        """How often each entry was tried."""
        return {place: entry.attempts for place, entry in self.entries.items()}

    def _wrong(self, words: str) -> None:
        self.problems.append(words)

    async def _look(self, storage: Storage) -> None:
        async for entry in storage.queue.entries(Filter(), now=0):
            place = Place(entry.trace, entry.destination)
            if place in self.entries:
                self._wrong(f"{place} is twice in the queue")
            self.entries[place] = entry
        await self._look_into_boxes(storage)
        await self._compare(storage)
        self._all_or_nothing()
        await self._read_journal(storage)
        self._compare_uids()

    async def _look_into_boxes(self, storage: Storage) -> None:
        boxes = {}
        for account in await storage.directory.accounts():
            for box in await storage.mailboxes.all(account.id):
                boxes[box.id] = box
                for row in await storage.mailboxes.messages(box.id):
                    place = Place(row.trace, box.id)
                    if place in self.rows:
                        self._wrong(f"{place} is twice in the mailbox")
                    self.rows[place] = row
                    if row.uid >= box.uidnext:
                        self._wrong(f"UID {row.uid} of mailbox {box.id} could be given again")
        for number, (deed, address, validity) in self.ledger.boxes.items():
            found = boxes.get(number)
            if found is None and deed.fate(self.moment) is Fate.DONE:
                self._wrong(f"the mailbox of {address} is gone")
            if found is not None and found.uidvalidity != validity:
                self._wrong(f"UIDVALIDITY of {address} changed")
            highest = max((seen.uid for seen in self._seen() if seen.mailbox == number), default=0)
            if found is not None and found.uidnext <= highest:
                self._wrong(f"mailbox {number} went back from UID {highest} to {found.uidnext}")

    def _seen(self) -> list[Seen]:
        return [seen for seen in self.ledger.seen if seen.moment <= self.moment]

    async def _compare(self, storage: Storage) -> None:
        known = self.ledger.known()
        for place in self.found:
            if place.trace not in known:
                self._wrong(f"{place} was never handed in")
            elif place not in self.ledger.facts:
                self._wrong(f"{place} is not where it was sent")
        for place, fact in self.ledger.facts.items():
            there = place in self.entries or place in self.rows
            must = self._must_be_there(fact)
            if must is not None and must is not there:
                self._wrong(f"{place} {'is lost' if must else 'came back'} ({_story(fact, self.moment)})")
            if there:
                await self._read(storage, place, fact)

    def _must_be_there(self, fact: Fact) -> bool | None:
        """Return None when both may be."""
        born = fact.born.fate(self.moment)
        gone = Fate.NOT_BEGUN if fact.gone is None else fact.gone.fate(self.moment)
        if born is Fate.NOT_BEGUN or gone is Fate.DONE:
            return False
        return True if born is Fate.DONE and gone is Fate.NOT_BEGUN else None

    async def _read(self, storage: Storage, place: Place, fact: Fact) -> None:
        try:
            if place in self.rows:
                row = self.rows[place]
                octets = await octets_of(await storage.mailboxes.open(row.mailbox, row.uid))
            else:
                octets = await stored(storage.spool, place.trace)
                self._compare_attempts(place, fact)
        except StorageError as error:
            self._wrong(f"{place} can't be read: {error}")
        else:
            if octets != fact.octets:
                self._wrong(f"{place} has other octets than were handed in")

    def _compare_attempts(self, place: Place, fact: Fact) -> None:
        fates = Counter(deed.fate(self.moment) for deed in fact.tried)
        least = fact.attempts + fates[Fate.DONE]
        if not least <= self.entries[place].attempts <= least + fates[Fate.OPEN]:
            self._wrong(f"{place} was tried {least} times, and counts {self.entries[place].attempts}")

    def _all_or_nothing(self) -> None:
        """A deed that was on its way must have happened in all its parts or in none."""
        votes: dict[Deed, set[bool]] = {}
        for place, fact in self.ledger.facts.items():
            there = place in self.entries or place in self.rows
            born = fact.born.fate(self.moment)
            gone = Fate.NOT_BEGUN if fact.gone is None else fact.gone.fate(self.moment)
            if born is Fate.OPEN and gone is Fate.NOT_BEGUN:
                votes.setdefault(fact.born, set()).add(there)
            elif gone is Fate.OPEN and born is Fate.DONE and fact.gone is not None:
                votes.setdefault(fact.gone, set()).add(not there)
        self.problems += [f"a deed ({deed.name}) was done by halves" for deed, said in votes.items() if len(said) > 1]

    async def _read_journal(self, storage: Storage) -> None:
        expected: dict[TraceId, Counter[tuple[str, Fate]]] = {}
        for deed, trace, station in self.ledger.events:
            expected.setdefault(trace, Counter())[station, deed.fate(self.moment)] += 1
        for trace, counts in expected.items():
            found = Counter(event.station.value for event in await storage.journal.of(trace))
            self.told[trace] = found
            for station in {station for station, _ in counts}:
                least = counts[station, Fate.DONE]
                if not least <= found[station] <= least + counts[station, Fate.OPEN]:
                    self._wrong(f"the journal of {trace} tells {found[station]} times '{station}', not {least} times")

    def _compare_uids(self) -> None:
        by_uid = {(row.mailbox, row.uid): row.trace for row in self.rows.values()}
        for seen in self._seen():
            trace = by_uid.get((seen.mailbox, seen.uid), seen.trace)
            row = self.rows.get(Place(seen.trace, seen.mailbox))
            if trace != seen.trace or (row is not None and row.uid != seen.uid):
                self._wrong(f"UID {seen.uid} of mailbox {seen.mailbox} became another message's")

    def _check_clean(self, *, harmless: bool) -> None:
        checker = StorageChecker(self.data)
        try:
            for problem in checker.problems(lambda read, total: None):
                if not (harmless and problem.harmless):
                    self._wrong(f"storage check: {problem.what}")
        finally:
            checker.close()

    async def _work(self, opened: SqliteStorage) -> None:
        """New mail comes in and is read; the house is put in order."""
        letters = Letters(opened.storage, now, _INSPECTOR)
        try:
            for size in (100, 150_000):
                octets = b"%06d" % size * (size // 6)
                trace = await letters.post(octets, to=["new@builder.test"], head=b"")
                if await stored(opened.storage.spool, trace) != octets:
                    self._wrong("a new message is not what was handed in")
                for entry in [entry async for entry in opened.storage.queue.entries(Filter(trace=trace), now=0)]:
                    await opened.storage.queue.delete([entry.id], now=now())
            await opened.maintain(smallest=0)
        except StorageError as error:
            self._wrong(f"it does not work any more: {error}")


def _story(fact: Fact, moment: int) -> str:
    deeds = [fact.born, *([fact.gone] if fact.gone else [])]
    return ", then ".join(f"{deed.name} {deed.fate(moment).value}" for deed in deeds)
