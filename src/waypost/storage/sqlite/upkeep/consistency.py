"""What the rows of the database promise each other, as a table of rules: how to find what breaks one, how to mend it.

Each rule is one statement, so it sees one moment of a database that others write to.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import apsw

from waypost.message.trace import TraceId, format_trace_id
from waypost.storage.sqlite.connection import REFUSALS
from waypost.storage.sqlite.queue.aside import hold_what_was_noted
from waypost.storage.sqlite.reading import Reading

log = logging.getLogger(__name__)

_MOST = 1000  # breaches of one rule that are told one by one


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise. `find` returns the values of `words`; `mend` are statements that make it true again."""

    name: str
    find: str
    words: str
    mend: tuple[str, ...]
    of_message: bool = True  # the first value is a message's id


_COUNTED = """
SELECT message, count(*) AS refs FROM (SELECT message FROM entry UNION ALL SELECT message FROM mailbox_message)
GROUP BY message"""
_EARLIEST = "SELECT destination, min(next_attempt) AS earliest FROM entry WHERE state = 0 GROUP BY destination"
_IN_MAILBOXES = """
SELECT mailbox.account, sum(size) AS octets FROM mailbox_message JOIN mailbox ON mailbox.id = mailbox_message.mailbox
GROUP BY mailbox.account"""
_LIVE = "coalesce((SELECT sum(length) FROM message WHERE message.segment = segment.id), 0)"
_WITHOUT_INBOX = "inbox NOT IN (SELECT id FROM mailbox)"
_NO_MESSAGE = "NOT EXISTS (SELECT 1 FROM message WHERE message.id = {table}.message)"

RULES = (
    # Before the rows of its mail, which would else be of no mailbox.
    Rule(
        "account without INBOX",
        "SELECT address FROM account WHERE inbox NOT IN (SELECT id FROM mailbox)",
        "account {0} has no INBOX",
        (
            "UPDATE account SET inbox = (SELECT id FROM mailbox WHERE account = account.id AND name = 'INBOX') "
            f"WHERE {_WITHOUT_INBOX} AND EXISTS (SELECT 1 FROM mailbox WHERE account = account.id AND name = 'INBOX')",
            "INSERT INTO counter (name, value) VALUES ('uidvalidity', unixepoch()) "
            "ON CONFLICT (name) DO UPDATE SET value = max(value + 1, unixepoch())",
            "INSERT INTO mailbox (id, account, name, uidvalidity, uidnext, highest_modseq) "
            "SELECT inbox, id, 'INBOX', (SELECT value FROM counter WHERE name = 'uidvalidity'), "
            "1 + coalesce((SELECT max(uid) FROM mailbox_message WHERE mailbox = inbox), 0), "
            "1 + coalesce((SELECT max(modseq) FROM mailbox_message WHERE mailbox = inbox), 0) "
            f"FROM account WHERE {_WITHOUT_INBOX} AND inbox > 0",
        ),
        of_message=False,
    ),
    Rule(
        "entry without message",
        f"SELECT message, entry.id, destination FROM entry WHERE {_NO_MESSAGE.format(table='entry')}",
        "message {0} is gone, but entry {1} for {2} waits for it",
        (f"DELETE FROM entry WHERE {_NO_MESSAGE.format(table='entry')}",),
    ),
    Rule(
        "mailbox row without message",
        f"SELECT message, mailbox, uid FROM mailbox_message WHERE {_NO_MESSAGE.format(table='mailbox_message')}",
        "message {0} is gone, but mailbox {1} lists it under UID {2}",
        (f"DELETE FROM mailbox_message WHERE {_NO_MESSAGE.format(table='mailbox_message')}",),
    ),
    Rule(
        "mailbox row without mailbox",
        "SELECT message, mailbox, uid FROM mailbox_message WHERE mailbox NOT IN (SELECT id FROM mailbox)",
        "message {0} is in mailbox {1}, which is gone, under UID {2}",
        ("DELETE FROM mailbox_message WHERE mailbox NOT IN (SELECT id FROM mailbox)",),
    ),
    Rule(
        "references",
        f"SELECT id, message.refs, coalesce(counted.refs, 0) FROM message LEFT JOIN ({_COUNTED}) AS counted "
        "ON counted.message = message.id WHERE message.refs <> coalesce(counted.refs, 0) OR message.refs <= 0",
        "message {0} counts {1} references, and has {2}",
        (
            "UPDATE message SET refs = coalesce(counted.refs, 0) FROM message AS old "
            f"LEFT JOIN ({_COUNTED}) AS counted ON counted.message = old.id "
            "WHERE old.id = message.id AND message.refs <> coalesce(counted.refs, 0)",
            "DELETE FROM message WHERE refs = 0",
        ),
    ),
    Rule(
        "message without segment",
        "SELECT id, segment FROM message WHERE segment NOT IN (SELECT id FROM segment)",
        "message {0} is in segment {1}, which has no row",
        (
            "INSERT INTO segment (id, worker, sealed) "
            "SELECT DISTINCT segment, 0, 1 FROM message WHERE segment NOT IN (SELECT id FROM segment)",
        ),
    ),
    Rule(
        "segment's live octets",
        f"SELECT id, live, {_LIVE} FROM segment WHERE live <> {_LIVE}",
        "segment {0} counts {1} octets that are needed, and has {2}",
        (f"UPDATE segment SET live = {_LIVE} WHERE live <> {_LIVE}",),
        of_message=False,
    ),
    Rule(
        "destination that nobody wakes",
        f"SELECT destination FROM ({_EARLIEST}) LEFT JOIN destination ON name = destination "
        "WHERE name IS NULL OR wake IS NULL OR (owner = -1 AND wake > max(earliest, not_before, again_at))",
        "mail for {0} is due, but nobody would look at it",
        (
            f"INSERT INTO destination (name, wake) SELECT destination, earliest FROM ({_EARLIEST}) WHERE true "
            "ON CONFLICT (name) DO UPDATE SET wake = max(excluded.wake, not_before)",
        ),
        of_message=False,
    ),
    Rule(
        "account's usage",
        f"SELECT address, usage, coalesce(octets, 0) FROM account LEFT JOIN ({_IN_MAILBOXES}) AS held "
        "ON held.account = account.id WHERE usage <> coalesce(octets, 0)",
        "account {0} counts {1} octets in its mailboxes, and has {2}",
        (
            f"UPDATE account SET usage = coalesce((SELECT octets FROM ({_IN_MAILBOXES}) AS held "
            "WHERE held.account = account.id), 0)",
        ),
        of_message=False,
    ),
    Rule(
        "mailbox's next UID",
        "SELECT id, uidnext, max(uid) FROM mailbox JOIN mailbox_message ON mailbox = id GROUP BY id "
        "HAVING max(uid) >= uidnext",
        "mailbox {0} would give UID {1} next, and has {2} already",
        (
            "UPDATE mailbox SET uidnext = max(uidnext, "
            "1 + coalesce((SELECT max(uid) FROM mailbox_message WHERE mailbox = mailbox.id), 0))",
        ),
        of_message=False,
    ),
)


def breaches(reading: Reading, rule: Rule) -> list[tuple[TraceId | None, str]]:
    """Return what breaks a rule: the message it is about, if it is about one, and the words. Raises `StorageError`."""
    found: list[tuple[TraceId | None, str]] = []
    for row in reading.rows(f"{rule.find} LIMIT {_MOST}"):
        trace = TraceId(row[0]) if rule.of_message else None
        values = [format_trace_id(trace), *row[1:]] if trace is not None else list(row)
        found.append((trace, rule.words.format(*values)))
    return found


def mend(connection: apsw.Connection) -> None:
    """Make all rules true again that can be, each in a transaction; a table that is damaged keeps no other from it."""
    for rule in RULES:
        _tried(connection, rule.name, lambda rule=rule: [connection.execute(sql).fetchall() for sql in rule.mend])  # type: ignore[misc]
    _tried(connection, "entries set aside", lambda: hold_what_was_noted(connection))


def _tried(connection: apsw.Connection, name: str, work: Callable[[], object]) -> None:
    try:
        with connection:
            work()
    except REFUSALS as error:
        log.error("not mended", extra={"fields": {"rule": name, "error": str(error)}})
