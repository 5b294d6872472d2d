"""The changes of a restore to the database, so that no client takes new mail for mail that was stored after the backup.

Numbers jump past all that may have been given: UIDs and MODSEQs of mailboxes (RFC 9051 section 2.3.1.1, RFC 7162
section 3.1.1), UIDVALIDITY of mailboxes to come, segments. Every message gets the new MODSEQ, so that clients correct
flags that were set in the lost time. Leases are forgotten. The queue is held: some of it may have left since.
"""

import apsw

from waypost.journal import encode
from waypost.message.trace import Micros, TraceId
from waypost.storage.entry_words import SINCE_RESTORE, restored_event
from waypost.storage.sqlite.opening.life import Life, write_row

JUMP = 1 << 20
"""By how much numbers jump at a restore: more than a mailbox gets between a backup and the restore."""

_LARGEST_UID = (1 << 32) - 1

# A mailbox near the end of its numbers takes half of what is left.
_MAILBOXES = f"""
UPDATE mailbox SET uidnext = uidnext + min(:jump, ({_LARGEST_UID} - uidnext) / 2),
                   highest_modseq = highest_modseq + :jump"""
_MESSAGES = """
UPDATE mailbox_message SET modseq = mailbox.highest_modseq FROM mailbox WHERE mailbox.id = mailbox_message.mailbox"""
_COUNTERS = "UPDATE counter SET value = value + :jump"
_SEGMENTS = "UPDATE sqlite_sequence SET seq = max(seq + :jump, :largest) WHERE name = 'segment'"
_FIRST_SEGMENT = """
INSERT INTO sqlite_sequence (name, seq) SELECT 'segment', max(:jump, :largest)
WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'segment')"""
_DESTINATIONS = "UPDATE destination SET wake = NULL, not_before = 0, again_at = 0, owner = -1, lease_until = 0"
_TOLD = """
INSERT INTO journal (message, time, events)
SELECT message, :now, :told FROM entry WHERE state = 0"""
_HOLD = """
UPDATE entry SET state = 1,
                 last_error = :why || CASE WHEN last_error IS NULL THEN '' ELSE '; before: ' || last_error END
WHERE state = 0"""
_SET_ASIDE = "DELETE FROM set_aside"  # a copy of the database has no damaged pages, and what was set aside is held now


def renew(connection: apsw.Connection, life: Life, *, restores: int, largest: int, now: Micros) -> int:
    """Begin a new life of the storage in this database, in a transaction of the caller; returns how many entries of
    the queue are held now.

    `restores` is how often the storage was restored since this database was written, this time included; `largest` is
    the largest number of a segment that is known. Raises `apsw.Error`.
    """
    told = encode([restored_event(TraceId(0), now)]).decode()
    values = {"jump": JUMP * restores, "largest": largest, "now": now, "why": SINCE_RESTORE, "told": told}
    for statement in (_FIRST_SEGMENT, _SEGMENTS, _COUNTERS, _MAILBOXES, _MESSAGES, _DESTINATIONS, _SET_ASIDE, _TOLD):
        _run(connection, statement, values)
    _run(connection, _HOLD, values)
    held = int(connection.changes())
    write_row(connection, life)
    return held


def _run(connection: apsw.Connection, statement: str, values: dict[str, object]) -> None:
    connection.execute(statement, values).fetchall()
