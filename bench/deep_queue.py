"""Builds a queue of very many deferred entries in seconds: rows in bulk, straight into the database of a new host.

What the rows say is written by the engine's own functions, once; SQL repeats it with other numbers. The octets are in
one large segment, and `waypost storage check` finds nothing to complain of. The service must not run.
"""

import os
import zlib
from pathlib import Path

import apsw

from bench.waypost_server import now
from waypost.journal import AttemptFailed, Event, encode
from waypost.message.address import Address
from waypost.message.envelope import Envelope, Recipient
from waypost.message.reply import parse_reply
from waypost.message.trace import TraceId
from waypost.storage.queue import reverse_path_text
from waypost.storage.sqlite import DATABASE
from waypost.storage.sqlite.rows import envelope_text, recipients_text
from waypost.storage.sqlite.segments.segments import HEADER, record_header, segment_path

LARGE = "large.deep.test"
"""The destination that has a tenth of all entries."""

_SENDER = Address("sender", "elsewhere.test")
_MINUTE = 60_000_000
_AGE = 2 * 24 * 60 * _MINUTE  # of the oldest entry
_WORDS = "451 4.3.2 busy, try again later"
OCTETS = b"Subject: deep\r\n\r\n" + (b"x" * 78 + b"\r\n") * 4

_PRAGMAS = (
    "journal_mode=MEMORY",
    "synchronous=OFF",
    "cache_size=-800000",
    "temp_store=MEMORY",
    "locking_mode=EXCLUSIVE",
)
_NUMBERS = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :entries) "

_MESSAGES = (
    "INSERT INTO message (id, segment, offset, length, crc, refs, received_at, reverse_path, envelope) "
    + _NUMBERS
    + "SELECT (:oldest + i * :step) << 10 | 1023, :segment, :head + i * (:head + :length), :length, :crc, 1, "
    ":oldest + i * :step, :path, :envelope FROM n"
)
# Attempts are spread over the next hour, after whatever is measured. So many came before that the schedule explains
# such a wait: what it doesn't explain was planned by a clock that was wrong, and a start would pull it back.
_ENTRIES = (
    "INSERT INTO entry (message, destination, recipients, queued_at, next_attempt, last_attempt, attempts, waited, "
    "last_error) "
    + _NUMBERS
    + "SELECT (:oldest + i * :step) << 10 | 1023, name, replace(replace(:recipients, '@N', i), '@D', name), "
    ":oldest + i * :step, :later + i % 3600 * 1000000, :now - 3600000000, 6, 3600000000, :words "
    "FROM (SELECT i, iif(i % 10 = 0, :large, 'd' || (i % :others) || '.deep.test') AS name FROM n)"
)
_DESTINATIONS = (
    "INSERT INTO destination (name, wake) SELECT destination, min(next_attempt) FROM entry GROUP BY destination"
)
_JOURNAL = "INSERT INTO journal (message, time, events) SELECT message, last_attempt, :events FROM entry ORDER BY id"
_NAMES = "INSERT INTO message_name (message_id, message) SELECT '<' || id || '@deep.test>', id FROM message"


def fill(data: Path, *, entries: int, destinations: int) -> None:
    """Fill the empty storage under `data`: a message an entry, none of them due within half an hour."""
    time = now()
    oldest, step = time - _AGE, _AGE // entries
    connection = apsw.Connection(str(data / DATABASE))
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    event = Event(TraceId(0), time, AttemptFailed(recipients=(), reply=parse_reply(_WORDS), status="4.3.2"))
    with connection:
        values = {
            "entries": entries,
            "oldest": oldest,
            "step": step,
            "segment": _segment(connection, data, [oldest + number * step << 10 | 1023 for number in range(entries)]),
            "head": HEADER.size,
            "length": len(OCTETS),
            "crc": zlib.crc32(OCTETS),
            "path": reverse_path_text(_SENDER),
            "envelope": envelope_text(Envelope(_SENDER)),
            "recipients": recipients_text((Recipient(Address("user@N", "@D")),)),
            "later": time + 30 * _MINUTE,
            "now": time,
            "words": _WORDS,
            "large": LARGE,
            "others": max(1, destinations - 1),
            "events": encode([event]).decode(),
        }
        for statement in (_MESSAGES, _ENTRIES, _DESTINATIONS, _JOURNAL, _NAMES):
            connection.execute(statement, values).fetchall()
    for pragma in ("locking_mode=NORMAL", "journal_mode=WAL"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.close()
    os.sync()  # or the first minute of the service would pay for it


def _segment(connection: apsw.Connection, data: Path, traces: list[int]) -> int:
    """Write a record for each message into a segment; return its number."""
    size, live = len(traces) * (HEADER.size + len(OCTETS)), len(traces) * len(OCTETS)
    sql = "INSERT INTO segment (worker, sealed, size, live) VALUES (1023, 1, ?, ?) RETURNING id"
    number = int(connection.execute(sql, (size, live)).get)
    crc = zlib.crc32(OCTETS)
    with segment_path(data / "segments", number).open("wb") as file:
        file.writelines(record_header(TraceId(trace), len(OCTETS), crc) + OCTETS for trace in traces)
    return number
