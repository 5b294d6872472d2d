"""A batch: the rows of one group commit, written with one statement a table.  # hot: bench/accept

Operations add rows; `flush` writes them in a fixed order, in which two engines that lock rows could not deadlock
(docs/decisions/0037): the tables one after the other as `FIXED_ORDER` names them, the rows of each by their key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import apsw

from waypost.journal import Event
from waypost.journal import encode as encode_events
from waypost.message.trace import Micros, TraceId
from waypost.storage.directory import AccountVersion
from waypost.storage.errors import AccountChanged, Damaged, NotFound
from waypost.storage.queue import Lease, reverse_path_text
from waypost.storage.spending import Expense
from waypost.storage.spool import MailboxDelivery, NewEntry, NewMessage
from waypost.storage.sqlite.rows import encode, envelope_text, latin1_text, recipients_text, text
from waypost.storage.sqlite.segments.bodies import body_of
from waypost.storage.sqlite.segments.segments import Location
from waypost.storage.sqlite.spending import Count

FIXED_ORDER = (
    "counter",
    "entry",
    "destination",
    "mailbox",
    "mailbox_message",
    "expunged",
    "alias",
    "account",
    "spending",
    "known_network",
    "message",
    "segment",
    "journal",
    "message_name",
    "set_aside",
)
"""In which order one transaction changes or removes rows of these tables. New rows, which nobody else knows, may come
at any time."""

_INSERT_MESSAGES = """
INSERT INTO message (id, segment, offset, length, crc, head, refs, received_at, reverse_path, envelope, account,
                     growth, eight_bit_header)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8,
       value->>9, value->>10, value->>11, value->>12
FROM json_each(?)"""

_GROW_SEGMENTS = """
UPDATE segment SET size = max(segment.size, grown.size), live = segment.live + grown.live
FROM (SELECT value->>0 AS id, value->>1 AS size, value->>2 AS live FROM json_each(?)) AS grown
WHERE segment.id = grown.id"""

# Apart: who sets `sealed` writes the index of open segments, whether it changes or not.
_SEAL_SEGMENTS = "UPDATE segment SET sealed = 1 WHERE id IN (SELECT value FROM json_each(?))"

_INSERT_ENTRIES = """
INSERT INTO entry (message, destination, recipients, priority, queued_at, next_attempt, not_before)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM json_each(?)"""

_WAKE_DESTINATIONS = """
INSERT INTO destination (name, wake)
SELECT value->>0, value->>1 FROM json_each(?) WHERE true
ON CONFLICT (name) DO UPDATE SET wake = max(not_before, min(coalesce(wake, excluded.wake), excluded.wake))"""

_INSERT_DELIVERIES = """
INSERT INTO mailbox_message (mailbox, uid, message, head, size, internal_date, modseq, flags)
SELECT mailbox.id,
       mailbox.uidnext - 1 + row_number() OVER (PARTITION BY mailbox.id ORDER BY new.key),
       new.value->>1, new.value->>2, new.value->>3, new.value->>4,
       mailbox.highest_modseq + row_number() OVER (PARTITION BY mailbox.id ORDER BY new.key),
       new.value->>5
FROM json_each(?) AS new JOIN mailbox ON mailbox.id = new.value->>0"""

_GROW_MAILBOXES = """
UPDATE mailbox SET uidnext = uidnext + new.messages, highest_modseq = highest_modseq + new.messages
FROM (SELECT value->>0 AS id, count(*) AS messages FROM json_each(?) GROUP BY 1) AS new
WHERE mailbox.id = new.id"""

_GROW_USAGE = """
UPDATE account SET usage = usage + new.octets
FROM (SELECT mailbox.account AS id, sum(value->>3) AS octets
      FROM json_each(?) JOIN mailbox ON mailbox.id = value->>0 GROUP BY 1) AS new
WHERE account.id = new.id"""

_INSERT_JOURNAL = """
INSERT INTO journal (message, time, events) SELECT value->>0, value->>1, value->>2 FROM json_each(?)"""

_INSERT_NAMES = """
INSERT OR IGNORE INTO message_name (message_id, message) SELECT value->>0, value->>1 FROM json_each(?)"""

_UPDATE_ENTRIES = """
UPDATE entry SET recipients = new.value->>1, next_attempt = new.value->>2, waited = new.value->>3,
       attempts = new.value->>4, last_attempt = new.value->>5, last_error = new.value->>6,
       delay_notified = new.value->>7, source = new.value->>8
FROM json_each(?) AS new WHERE entry.id = new.value->>0"""

_DELETE_ENTRIES = "DELETE FROM entry WHERE id IN (SELECT value FROM json_each(?)) RETURNING message"

# A message whose last references go is removed, not changed first.
_DELETE_MESSAGES = """
DELETE FROM message WHERE id IN
    (SELECT message.id FROM (SELECT value->>0 AS id, value->>1 AS refs FROM json_each(?)) AS new
     CROSS JOIN message ON message.id = new.id WHERE message.refs + new.refs <= 0)
RETURNING id, segment, length"""

_ADD_REFS = """
UPDATE message SET refs = message.refs + new.refs
FROM (SELECT value->>0 AS id, value->>1 AS refs FROM json_each(?)) AS new WHERE message.id = new.id"""

_KEY = itemgetter(0)
_LEASE_HOLDS = "SELECT 1 FROM destination WHERE name = ? AND epoch = ?"


@dataclass(slots=True)
class _Growth:
    """What a commit changes of a segment."""

    size: int = 0
    live: int = 0
    sealed: bool = False


class Batch:
    """Rows that wait for their group's commit. `locations` says where octets are, by id() of their message."""

    def __init__(self, connection: apsw.Connection, locations: Mapping[int, Location] = MappingProxyType({})) -> None:
        self.connection = connection
        self.stored: list[NewMessage] = []
        self._locations = locations
        self._messages: list[list[Any]] = []
        self._entries: list[list[Any]] = []
        self._wakes: dict[str, Micros] = {}
        self._deliveries: list[list[Any]] = []
        self._journal: list[list[Any]] = []
        self._names: list[list[Any]] = []
        self._updates: list[list[Any]] = []
        self._deletes: list[int] = []
        self._refs: dict[int, int] = {}
        self._segments: dict[int, _Growth] = {}
        self._spending: Count | None = None
        self._leases: dict[Lease, bool] = {}

    def octets_of(self, messages: Sequence[NewMessage]) -> None:
        """Count the octets of these messages to their segments, where they are by now, needed or not."""
        for message in messages:
            location = self._locations[id(message)]
            file = body_of(message).file
            size = location.offset + location.length if file is None else file.size
            self.grow(location.segment, size=size)

    def has_entry(self, entry: int) -> bool:
        """True when a queue entry is there, and no operation of this batch takes it away."""
        if entry in self._deletes:
            return False
        return self.connection.execute("SELECT 1 FROM entry WHERE id = ?", (entry,)).get is not None

    def holds(self, lease: Lease) -> bool:
        """True when nobody has claimed the destination since this lease was given."""
        known = self._leases.get(lease)
        if known is None:
            found = self.connection.execute(_LEASE_HOLDS, (lease.destination, lease.epoch)).get
            known = self._leases[lease] = found is not None
        return known

    def grow(self, segment: int, *, size: int = 0, live: int = 0, sealed: bool = False) -> None:
        """Note that a segment is at least `size` octets, of which `live` more are needed; sealed: it grows no more."""
        growth = self._segments.setdefault(segment, _Growth())
        growth.size = max(growth.size, size)
        growth.live += live
        growth.sealed = growth.sealed or sealed

    def spend(self, expense: Expense, now: Micros) -> str | None:
        """Count what a message costs its account; returns the limit that it would exceed, and then nothing is counted.

        Messages of the same group that were counted before it count.
        """
        if self._spending is None:
            self._spending = Count(self.connection)
        return self._spending.add(expense, now)

    def message(self, message: NewMessage) -> None:
        """Add a new message with all that belongs to it. Where it goes nowhere, only the journal tells of it.

        Raises `AccountChanged`.
        """
        if message.login is not None:
            must_be_as_it_was(self.connection, message.login)
        if message.entries or message.deliveries:
            self._message(message)
        self.events(message.events)
        if message.message_id:
            self._names.append([message.message_id, message.trace])

    def _message(self, message: NewMessage) -> None:
        location = self._locations[id(message)]
        body = body_of(message)
        spilled, form = body.spilled, body.meter.form(message.head)
        self._messages.append(
            [
                message.trace,
                location.segment,
                location.offset,
                location.length,
                location.crc,
                latin1_text(message.head) if spilled else "",
                len(message.deliveries) + len(message.entries),
                message.received_at,
                reverse_path_text(message.envelope.reverse_path),
                envelope_text(message.envelope),
                message.account,
                form.growth,
                int(form.eight_bit_header),
            ]
        )
        self.stored.append(message)
        self.grow(location.segment, live=location.length, sealed=spilled)
        size = location.length + (len(message.head) if spilled else 0)
        self.entries(message.trace, message.entries, message.received_at)
        self.deliveries(message.trace, message.deliveries, size, message.received_at)

    def entries(self, trace: TraceId, entries: tuple[NewEntry, ...], now: Micros) -> None:
        """Add queue entries of a message."""
        for entry in entries:
            self._entries.append(
                [
                    trace,
                    entry.destination,
                    recipients_text(entry.recipients),
                    entry.priority,
                    now,
                    entry.next_attempt,
                    entry.not_before,
                ]
            )
            wake = self._wakes.get(entry.destination)
            self._wakes[entry.destination] = entry.next_attempt if wake is None else min(wake, entry.next_attempt)

    def deliveries(self, trace: TraceId, deliveries: tuple[MailboxDelivery, ...], size: int, now: Micros) -> None:
        """Add mailbox rows of a message that has `size` octets without their heads."""
        for delivery in deliveries:
            self._deliveries.append(
                [
                    delivery.mailbox,
                    trace,
                    latin1_text(delivery.head),
                    size + len(delivery.head),
                    now,
                    text(sorted(delivery.flags)),
                ]
            )

    def events(self, events: Sequence[Event]) -> None:
        """Add events; all of one message stand in one row."""
        by_trace: dict[TraceId, list[Event]] = {}
        for event in events:
            by_trace.setdefault(event.trace, []).append(event)
        for trace, of_one in by_trace.items():
            self._journal.append([trace, of_one[-1].time, encode_events(of_one).decode()])

    def update_entry(self, row: list[Any]) -> None:
        """Change an entry: [id, recipients, next_attempt, waited, attempts, last_attempt, error, notified, source]."""
        self._updates.append(row)

    def delete_entry(self, entry: int) -> None:
        """Remove an entry, and its message when nothing else needs it."""
        self._deletes.append(entry)

    def add_refs(self, trace: int, refs: int) -> None:
        """Count references to a message; it goes when the last one goes."""
        self._refs[trace] = self._refs.get(trace, 0) + refs

    def flush(self) -> None:
        """Write the rows that were added so far. Raises `NotFound` when a mailbox is gone."""
        run = self.connection.execute
        if self._messages:
            run(_INSERT_MESSAGES, (_json(self._messages),))
        if self._updates:
            run(_UPDATE_ENTRIES, (_json(sorted(self._updates, key=_KEY)),))
        if self._deletes:
            for (message,) in run(_DELETE_ENTRIES, (_json(sorted(self._deletes)),)):
                self.add_refs(message, -1)
        if self._entries:
            run(_INSERT_ENTRIES, (_json(self._entries),))
            run(_WAKE_DESTINATIONS, (_json(sorted(self._wakes.items())),))
        if self._deliveries:
            self._flush_deliveries()
        if self._spending is not None:
            self._spending.flush()
        if self._refs:
            self._flush_refs()
        if self._segments:
            self._flush_segments()
        if self._journal:
            run(_INSERT_JOURNAL, (_json(self._journal),))
        if self._names:
            run(_INSERT_NAMES, (_json(sorted(self._names)),))
        self._clear()

    def _clear(self) -> None:
        for rows in (self._messages, self._entries, self._deliveries, self._journal):
            rows.clear()
        for more in (self._names, self._updates, self._deletes):
            more.clear()
        self._wakes.clear()
        self._refs.clear()
        self._leases.clear()  # what runs next on the connection may claim or release

    def _flush_deliveries(self) -> None:
        rows = _json(sorted(self._deliveries, key=_KEY))  # those of one mailbox stay in the order of their arrival
        self.connection.execute(_INSERT_DELIVERIES, (rows,))
        if self.connection.changes() != len(self._deliveries):
            raise NotFound("a mailbox was removed while its message arrived")
        self.connection.execute(_GROW_MAILBOXES, (rows,))
        self.connection.execute(_GROW_USAGE, (rows,))

    def _flush_segments(self) -> None:
        rows = [[segment, grown.size, grown.live] for segment, grown in sorted(self._segments.items(), key=_KEY)]
        sealed = sorted(segment for segment, grown in self._segments.items() if grown.sealed)
        self._segments.clear()
        self.connection.execute(_GROW_SEGMENTS, (_json(rows),))
        if self.connection.changes() != len(rows):  # its octets would be swept away
            raise Damaged("the row of a segment is gone from the database: run `waypost storage check`")
        if sealed:
            self.connection.execute(_SEAL_SEGMENTS, (_json(sealed),))

    def _flush_refs(self) -> None:
        rows = _json(sorted(self._refs.items()))
        for message, segment, length in self.connection.execute(_DELETE_MESSAGES, (rows,)).fetchall():
            self.grow(segment, live=-length)
            del self._refs[message]
        if self._refs:
            self.connection.execute(_ADD_REFS, (_json(sorted(self._refs.items())),))


def must_be_as_it_was(connection: apsw.Connection, login: AccountVersion) -> None:
    """Raise `AccountChanged` unless an account is as it was at a login; called in the transaction that acts for it."""
    if connection.execute("SELECT version FROM account WHERE id = ?", (login.id,)).get != login.version:
        raise AccountChanged("the account was disabled or removed, or its password changed, since the login")


def _json(rows: Any) -> str:
    return encode(rows).decode()
