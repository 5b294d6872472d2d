"""When a destination is due next: its row says so, computed anew whenever its entries change."""

import logging
from collections.abc import Iterable, Sequence

import apsw

from waypost.message.trace import Micros
from waypost.storage.queue import Lease
from waypost.storage.sqlite.queue.aside import NOT_ASIDE
from waypost.storage.waking import rests, wake_time

log = logging.getLogger(__name__)

USED_PRIORITIES = """
WITH RECURSIVE used (priority) AS (
    SELECT max(priority) FROM entry WHERE destination = :name AND state = 0
    UNION ALL
    SELECT (SELECT max(priority) FROM entry
            WHERE destination = :name AND state = 0 AND priority < used.priority)
    FROM used WHERE used.priority IS NOT NULL)"""
"""The priorities that entries of a destination have, the highest first, and NULL at the end."""

# The index gives it for each priority in use.
EARLIEST = f"""
{USED_PRIORITIES}
SELECT min((SELECT next_attempt FROM entry
            WHERE destination = :name AND state = 0 AND priority = used.priority AND {NOT_ASIDE}
            ORDER BY next_attempt LIMIT 1)) FROM used"""
# Behind the failed round that counts for all before.
_FRESH = f"""
{USED_PRIORITIES}
SELECT min((SELECT next_attempt FROM entry
            WHERE destination = :name AND state = 0 AND priority = used.priority AND next_attempt > :failed_at
              AND {NOT_ASIDE} ORDER BY next_attempt LIMIT 1)) FROM used"""
_FAILED = "SELECT failed_at, again_at FROM destination WHERE name = ?"
GIVE_BACK = """
UPDATE destination SET owner = -1, lease_until = 0, pacing = coalesce(?, pacing)
WHERE name = ? AND epoch = ? AND owner >= 0 RETURNING 1"""


def give_back(connection: apsw.Connection, lease: Lease, not_before: Micros, pacing: str | None = None) -> None:
    """End a lease, note a pace if there is one, and compute when its destination is due next; nothing happens when the
    lease was lost."""
    if connection.execute(GIVE_BACK, (pacing, lease.destination, lease.epoch)).get is not None:
        set_wake(connection, lease.destination, not_before)


def set_wake(connection: apsw.Connection, name: str, not_before: Micros = 0) -> None:
    """Compute when a destination is due next; forget it when nothing waits.

    A destination that somebody owns stays, even with nothing waiting: else another could come to own it, too.
    """
    earliest = connection.execute(EARLIEST, {"name": name}).get
    if earliest is None and connection.execute("SELECT 1 FROM entry WHERE destination = ?", (name,)).get is None:
        connection.execute("DELETE FROM destination WHERE name = ? AND owner = -1", (name,)).fetchall()
    wake = None if earliest is None else _wake_time(connection, name, int(earliest), not_before)
    connection.execute(
        "UPDATE destination SET wake = ?, not_before = ? WHERE name = ?", (wake, not_before, name)
    ).fetchall()


def _wake_time(connection: apsw.Connection, name: str, earliest: Micros, not_before: Micros) -> Micros:
    failed_at, again_at = connection.execute(_FAILED, (name,)).fetchone() or (0, 0)
    if not rests(earliest, failed_at, again_at):
        return wake_time(earliest, not_before=not_before)
    fresh = connection.execute(_FRESH, {"name": name, "failed_at": failed_at}).get
    return wake_time(earliest, resting=True, again_at=again_at, fresh=fresh, not_before=not_before)


def set_wakes(connection: apsw.Connection, names: Iterable[str]) -> None:
    """Compute when destinations are due next, as `set_wake` does: each once, in the order of their names."""
    for name in sorted(set(names)):
        set_wake(connection, name)


def readable(connection: apsw.Connection, names: Sequence[bytes]) -> list[str]:
    """Return names of destinations; one with a flipped bit wakes nobody any more, and holds up no other."""
    found = []
    for octets in names:
        try:
            found.append(octets.decode())
        except UnicodeDecodeError:
            connection.execute("UPDATE destination SET wake = NULL WHERE CAST(name AS BLOB) = ?", (octets,)).fetchall()
            fields = {"destination": octets.decode("ascii", "backslashreplace")}
            log.error("a destination is damaged: run `waypost storage check`", extra={"fields": fields})
    return found
