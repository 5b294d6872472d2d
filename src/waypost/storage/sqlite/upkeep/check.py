"""Checking a storage while others use it: the database itself, what its rows promise, and every message's octets.

Nothing is changed but by `repair`. What looks wrong is looked at again, since messages come, move and go meanwhile.
An unreadable part does not end the check: it is one more problem, and the rest is checked.
"""

import fcntl
import logging
import os
import shlex
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from waypost.counting import counted
from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.connection import LOOK, connect, connect_reading
from waypost.storage.sqlite.opening import life as lives
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.segments.arriving import ARRIVING
from waypost.storage.sqlite.segments.lost import LOST, lost_segments
from waypost.storage.sqlite.segments.reader import SegmentReader
from waypost.storage.sqlite.segments.segments import HEADER, MAGIC, abandoned, segment_number
from waypost.storage.sqlite.upkeep.consistency import RULES, Rule, breaches, mend
from waypost.storage.sqlite.upkeep.rebuild import damaged_tables, give_space_back, rebuild
from waypost.storage.sqlite.upkeep.remaking import REMADE, damaged, remake
from waypost.storage.sqlite.upkeep.values import VALUES, Value, unreadable

log = logging.getLogger(__name__)

_PAGE = 500
_CHUNK = 1 << 20

REPAIR = "waypost storage check --repair"
RESTORE = (
    "stop the service; `waypost restore DIR` brings a backup back, `waypost storage recover DIR` whatever can be read"
)
DAMAGED = f"`{REPAIR}` mends it where only an index is damaged; if it does not, {RESTORE}"
NOT_MENDED = f"`{REPAIR}` could not mend it: {RESTORE}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, and what to do. `harmless`: the service puts it right by itself."""

    what: str
    advice: str
    trace: TraceId | None = None
    harmless: bool = False


Progress = Callable[[int, int], None]
"""Called with how many messages were read so far, and how many there are about."""


class StorageChecker:
    """Checks the storage in `data`; `repaired`: what can be mended was, just before."""

    def __init__(self, data: Path, *, repaired: bool = False) -> None:
        self._damaged_database = NOT_MENDED if repaired else DAMAGED
        self._folder = data / "segments"
        self._reading = Reading(connect_reading(data / DATABASE))
        self._reader = SegmentReader(self._folder, keep=16)
        self.messages = 0
        self.octets = 0

    def close(self) -> None:
        """Close what was opened."""
        self._reader.close()
        self._reading.close()

    def problems(self, progress: Progress) -> Iterator[Problem]:
        """Yield everything that is wrong. Raises `StorageError` when the database can't be read at all."""
        tables = self._reading.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
        for (table,) in tables:  # one by one, so that no single look keeps the log from starting anew for long
            yield from self._unless_unreadable(f"the database: {table}", self._table(table))
        for rule in RULES:
            yield from self._unless_unreadable(f"the database: the rule about {rule.name}", self._rule(rule))
        for value in VALUES:
            yield from self._unless_unreadable(f"the database: {value.name}", self._values(value))
        yield from self._unless_unreadable("the segments", self._files())
        yield from self._unless_unreadable("the messages", self._all_octets(progress))

    def _unless_unreadable(self, what: str, problems: Iterator[Problem]) -> Iterator[Problem]:
        """Yield problems; when what is checked can't be read, that is the last one."""
        try:
            yield from problems
        except (StorageError, OSError, TypeError, ValueError, struct.error) as error:  # also a value of another kind
            # The reader already runs the command that this error advises elsewhere.
            words = str(error).removesuffix(LOOK)
            yield Problem(f"{what} can't be checked: {words}", self._damaged_database)

    def _table(self, table: str) -> Iterator[Problem]:
        for (words,) in self._reading.rows(f'PRAGMA integrity_check("{table}")'):
            if words != "ok":
                yield Problem(f"the database: {table}: {words}", self._damaged_database)

    def _rule(self, rule: Rule) -> Iterator[Problem]:
        for trace, words in breaches(self._reading, rule):
            yield Problem(words, f"`{REPAIR}` mends it", trace)

    def _values(self, value: Value) -> Iterator[Problem]:
        for trace, words in unreadable(self._reading, value):
            yield Problem(words, value.advice, trace)

    def _files(self) -> Iterator[Problem]:
        numbers = {segment_number(path): path for path in self._folder.iterdir()}
        # Asked after the listing: a segment's row is there before its file has its name.
        rows = dict(self._reading.rows("SELECT id, live FROM segment"))
        for number, path in numbers.items():
            if number is not None and number not in rows and not self._needs(number):
                yield Problem(
                    f"{path.name}: the database does not know this segment; it may hold mail of another time",
                    "the running service puts it under lost/ and keeps it; `waypost storage recover` reads it",
                )
        if lost := lost_segments(self._folder.parent):
            words = f"{LOST}/ holds {counted(lost, 'segment')}, of another time or of before a restore"
            yield Problem(
                words, "keep what is there until you know that you need none of it; then remove it by hand", None, True
            )
        for path in self._folder.glob(f"{ARRIVING}*"):
            if abandoned(path):
                words = f"{path.name}: half a message that a crash left"
                yield Problem(words, "the running service removes it", None, True)

    def _needs(self, segment: int) -> bool:
        return self._reading.value("SELECT 1 FROM message WHERE segment = ?", (segment,)) is not None

    def _all_octets(self, progress: Progress) -> Iterator[Problem]:
        total = int(self._reading.value("SELECT count(*) FROM message"))
        last = -1
        progress(0, total)
        while True:
            rows = self._reading.rows("SELECT id FROM message WHERE id > ? ORDER BY id LIMIT ?", (last, _PAGE))
            for (trace,) in rows:
                yield from self._unless_unreadable(f"message {trace}", self._whole(TraceId(trace)))
                self.messages += 1
                progress(self.messages, max(total, self.messages))
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def _whole(self, trace: TraceId) -> Iterator[Problem]:
        problem = self._octets(trace) and self._octets(trace)  # it may just have moved
        if problem is not None:
            yield problem

    def _octets(self, trace: TraceId) -> Problem | None:
        """Read one message: its record's header and all its octets; None when it is whole, or gone."""
        row = self._reading.row("SELECT segment, offset, length, crc FROM message WHERE id = ?", (trace,))
        if row is None:
            return None
        segment, offset, length, crc = row
        try:
            header = self._reader.read(segment, offset - HEADER.size, HEADER.size)
            found = 0
            position = 0
            while position < length:
                data = self._reader.read(segment, offset + position, min(_CHUNK, length - position))
                if not data:
                    return self._damaged(trace, segment, f"ends {counted(length - position, 'octet')} too early")
                found = zlib.crc32(data, found)
                position += len(data)
        except OSError as error:
            return self._damaged(trace, segment, f"can't be read: {os.strerror(error.errno or 0)}")
        if found != crc:
            return self._damaged(trace, segment, "holds other octets than were stored")
        if header != HEADER.pack(MAGIC, trace, length, crc):
            return self._damaged(trace, segment, "has a damaged header in front of it (its octets are whole)")
        self.octets += length
        return None

    def _damaged(self, trace: TraceId, segment: int, how: str) -> Problem:
        name = format_trace_id(trace)
        path = f"{segment:012}.seg"
        boxes = self._reading.rows(
            "SELECT address, name, uid FROM mailbox_message JOIN mailbox ON mailbox.id = mailbox "
            "JOIN account ON account.id = mailbox.account WHERE message = ?",
            (trace,),
        )
        waits = self._reading.value("SELECT 1 FROM entry WHERE message = ?", (trace,)) is not None
        # The copy in a backup may be shorter than the segment is now: the octets after it must stay.
        target = shlex.quote(str(self._folder / path))
        advice = [
            "where a backup has it, put its octets back while the service is stopped: "
            f"dd conv=notrunc if=BACKUP/segments/{path} of={target}"
        ]
        if waits:
            advice.append(f"or give it up with `waypost queue return --trace {name}`")
        for address, mailbox, uid in boxes:
            advice.append(f"or delete it from {mailbox} of {address} (UID {uid})")
        return Problem(f"message {name} in {path} {how}", "; ".join(advice), trace)


def repair(data: Path, now: Micros) -> None:
    """Rebuild damaged indexes, and recount what can be counted anew, while the writers of all processes wait.

    What can't be mended is left as it is, and the next check tells of it. Raises `apsw.Error`, `OSError`.
    """
    lock = os.open(data / "writer.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        connection = connect(data / DATABASE)
        try:
            tables = damaged_tables(connection)  # nobody waits for that
            fcntl.flock(lock, fcntl.LOCK_EX)
            for table in damaged(connection):
                log.warning("table rebuilt", extra={"fields": remake(connection, data, table, now)})
            rebuild(connection, [table for table in tables if table not in REMADE])
            _name_again(connection, data)
            give_space_back(connection)
            mend(connection)
        finally:
            connection.close()
    finally:
        os.close(lock)


def _name_again(connection: apsw.Connection, data: Path) -> None:
    """Let the database say again of which storage it is, where the page that said it is damaged: the file has it."""
    try:
        lives.read_row(connection)
        return
    except (apsw.CorruptError, StorageError):
        file = lives.read_file(data)
    if file is not None:
        log.warning("table rebuilt", extra={"fields": remake(connection, data, "life", 0)})
        with connection:
            lives.write_row(connection, file)
