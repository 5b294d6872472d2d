"""Mailboxes of the embedded engine (the data model of RFC 9051 and RFC 7162)."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import apsw

from waypost.counting import counted
from waypost.message.trace import Micros, TraceId
from waypost.protocol.canonical import PLAIN, UNMEASURED, ContentForm
from waypost.storage import notices
from waypost.storage.directory import AccountVersion
from waypost.storage.errors import Conflict, Damaged, NotFound
from waypost.storage.mailboxes import Mailbox, MailboxMessage
from waypost.storage.spool import StoredMessage
from waypost.storage.sqlite.commit.batch import Batch, must_be_as_it_was
from waypost.storage.sqlite.commit.halving import give_way, in_halves
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.locks import FileLock, lock_mailbox
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import encode, text, texts_from
from waypost.storage.sqlite.spool import SqliteSpool

log = logging.getLogger(__name__)

AT_ONCE = 200
"""Messages that one commit removes or changes: more would keep the writers of all processes waiting."""

_PAGE = 1000
"""Messages that are read in one turn of the event loop: some 1.3 ms."""

_MAILBOX = "SELECT id, account, name, uidvalidity, uidnext, highest_modseq FROM mailbox "
_MESSAGES = """
SELECT mailbox, uid, message, size, internal_date, modseq, CAST(flags AS BLOB),
       CASE WHEN length(CAST(head AS BLOB)) <> length(head) THEN CAST(head AS BLOB) END
FROM mailbox_message WHERE mailbox = :mailbox AND uid > :after ORDER BY uid LIMIT :page"""
# Few messages have a form of their own, and the partial index knows them.
_FORMS = """
SELECT mailbox_message.uid, form.growth, form.eight_bit_header
FROM mailbox_message CROSS JOIN message AS form INDEXED BY message_form
WHERE mailbox_message.mailbox = :mailbox AND uid > :after AND uid <= :last AND form.id = mailbox_message.message
  AND (form.growth IS NOT NULL OR form.eight_bit_header)"""

_OLD_EXPUNGED = "SELECT mailbox, modseq, uid FROM expunged INDEXED BY expunged_time WHERE time < ? LIMIT ?"
_FORGET_EXPUNGED = """
DELETE FROM expunged WHERE (mailbox, modseq, uid) IN
    (SELECT value->>0, value->>1, value->>2 FROM json_each(?))"""
_NOTE_FORGOTTEN = "UPDATE mailbox SET forgotten = max(forgotten, ?) WHERE id = ?"


_NO_FLAGS: frozenset[str] = frozenset()


def new_mailbox(connection: apsw.Connection, account: int, name: str, now: Micros) -> int:
    """Insert a mailbox with a UIDVALIDITY that was never used (RFC 9051 2.3.1.1); return its id."""
    validity = connection.execute(
        "INSERT INTO counter (name, value) VALUES ('uidvalidity', :now) "
        "ON CONFLICT (name) DO UPDATE SET value = max(value + 1, :now) RETURNING value",
        {"now": now // 1_000_000},
    ).get
    return int(
        connection.execute(
            "INSERT INTO mailbox (account, name, uidvalidity) VALUES (?, ?, ?) RETURNING id",
            (account, name, validity),
        ).get
    )


def remove_messages(
    connection: apsw.Connection, mailbox: int, uids: Sequence[int] | None, now: Micros, limit: int = -1
) -> int:
    """Delete rows of a mailbox (None: any, up to `limit`), with what only they needed; return how many there were."""
    chosen = "" if uids is None else "AND uid IN (SELECT value FROM json_each(:uids))"
    some = f"FROM mailbox_message WHERE mailbox = :mailbox {chosen}"
    values = {"mailbox": mailbox, "limit": limit, "uids": _json(sorted(uids or ()))}
    if connection.execute(f"SELECT 1 {some} LIMIT 1", values).get is None:
        return 0
    account, modseq = connection.execute(
        "UPDATE mailbox SET highest_modseq = highest_modseq + 1 WHERE id = ? RETURNING account, highest_modseq",
        (mailbox,),
    ).fetchone() or (0, 0)
    rows = connection.execute(
        f"DELETE FROM mailbox_message WHERE mailbox = :mailbox AND uid IN (SELECT uid {some} LIMIT :limit) "
        "RETURNING uid, message, size",
        values,
    ).fetchall()
    connection.execute(
        "INSERT INTO expunged (mailbox, modseq, uid, time) SELECT ?, ?, value, ? FROM json_each(?)",
        (mailbox, modseq, now, _json([uid for uid, _, _ in rows])),
    ).fetchall()
    octets = sum(size for _, _, size in rows)
    connection.execute("UPDATE account SET usage = usage - ? WHERE id = ?", (octets, account)).fetchall()
    batch = Batch(connection)
    for _, message, _ in rows:
        batch.add_refs(message, -1)
    batch.flush()
    return len(rows)


def forget_expunged(connection: apsw.Connection, before: Micros, limit: int) -> int:
    """Forget which UIDs went before a time, up to `limit` of them; return how many. Mailboxes note up to where."""
    rows = connection.execute(_OLD_EXPUNGED, (before, limit)).fetchall()
    forgotten: dict[int, int] = {}
    for mailbox, modseq, _ in rows:
        forgotten[mailbox] = max(modseq, forgotten.get(mailbox, 0))
    for mailbox, modseq in sorted(forgotten.items()):
        connection.execute(_NOTE_FORGOTTEN, (modseq, mailbox)).fetchall()
    connection.execute(_FORGET_EXPUNGED, (_json(sorted(rows)),)).fetchall()
    return len(rows)


class SqliteMailboxes:
    """Reads and changes mailboxes."""

    def __init__(
        self,
        writer: Writer,
        reading: Reading,
        spool: SqliteSpool,
        locks: Path,
        now: Callable[[], Micros],
    ) -> None:
        self._now = now
        self._writer = writer
        self._reading = reading
        self._spool = spool
        self._locks = locks

    async def all(self, account: int) -> list[Mailbox]:
        """Return the mailboxes of an account, by name."""
        rows = self._reading.rows(_MAILBOX + "WHERE account = ? ORDER BY name", (account,))
        return [Mailbox(*row) for row in rows]

    async def get(self, account: int, name: str = "INBOX") -> Mailbox:
        """Return a mailbox; INBOX is found in any case. Raises `NotFound`."""
        wanted = "INBOX" if name.upper() == "INBOX" else name
        row = self._reading.row(_MAILBOX + "WHERE account = ? AND name = ?", (account, wanted))
        if row is None:
            raise NotFound(f"no mailbox {name!r}")
        return Mailbox(*row)

    async def create(self, account: int, name: str) -> Mailbox:
        """Make a mailbox. Raises `Conflict`."""

        def create(connection: apsw.Connection) -> None:
            try:
                new_mailbox(connection, account, name, self._now())
            except apsw.ConstraintError:
                raise Conflict(f"there is a mailbox {name!r} already") from None

        if name.upper() == "INBOX":
            raise Conflict("INBOX exists from the first day")
        await self._writer.call(create)
        return await self.get(account, name)

    async def pages(self, mailbox: int, *, after: int = 0) -> AsyncIterator[Sequence[MailboxMessage]]:
        """Yield the messages behind a UID, in pages. It rests between them, so that who changes flags waits for a page
        and not for a mailbox."""
        while True:
            began = time.monotonic()
            page = self._page(mailbox, after)
            yield page
            if len(page) < _PAGE:
                return
            after = page[-1].uid
            await give_way(began)

    async def messages(self, mailbox: int) -> list[MailboxMessage]:
        """Return all messages, by UID."""
        return [message async for page in self.pages(mailbox) for message in page]

    def _page(self, mailbox: int, after: int) -> list[MailboxMessage]:
        values: dict[str, int] = {"mailbox": mailbox, "after": after, "page": _PAGE}
        rows = self._reading.rows(_MESSAGES, values)
        if not rows:
            return []
        values["last"] = rows[-1][1]
        forms = {uid: _form(growth, header) for uid, growth, header in self._reading.rows(_FORMS, values)}
        return [
            MailboxMessage(
                box,
                uid,
                TraceId(message),
                size,
                date,
                modseq,
                _flags(flags, box, uid),
                forms.get(uid, PLAIN),
                b"" if head is None else head.decode("utf-8", "replace").encode("latin-1", "replace"),
            )
            for box, uid, message, size, date, modseq, flags, head in rows
        ]

    async def open(self, mailbox: int, uid: int) -> StoredMessage:
        """Open the octets of a message: its head, then the shared ones. Raises `NotFound`."""
        row = self._reading.row(
            "SELECT message, head FROM mailbox_message WHERE mailbox = ? AND uid = ?", (mailbox, uid)
        )
        if row is None:
            raise NotFound(f"no message {uid} in the mailbox")
        return self._spool.message(TraceId(row[0]), str(row[1]).encode("latin-1"))

    async def set_flags(self, mailbox: int, uids: Sequence[int], flags: frozenset[str]) -> None:
        """Replace flags and keywords, in steps; MODSEQ grows with each."""
        wanted = text(sorted(flags))
        published = notices.of_mailbox(mailbox)

        def change(connection: apsw.Connection, some: Sequence[int]) -> None:
            values = {"mailbox": mailbox, "uids": _json(sorted(some)), "flags": wanted}
            connection.execute("UPDATE mailbox SET highest_modseq = highest_modseq + 1 WHERE id = :mailbox", values)
            connection.execute(
                "UPDATE mailbox_message SET flags = :flags, "
                "modseq = (SELECT highest_modseq FROM mailbox WHERE id = :mailbox) "
                "WHERE mailbox = :mailbox AND uid IN (SELECT value FROM json_each(:uids))",
                values,
            )

        for start in range(0, len(uids), AT_ONCE):
            step = uids[start : start + AT_ONCE]
            await self._writer.call(lambda connection, step=step: change(connection, step), lambda _: published)  # type: ignore[misc]

    async def expunge(self, mailbox: int, uids: Sequence[int], login: AccountVersion | None = None) -> int:
        """Remove messages, in steps; returns how many there were. Raises `Damaged` when some stay, of which one is, and
        `AccountChanged`."""

        def remove(connection: apsw.Connection, some: Sequence[int]) -> int:
            if login is not None:
                must_be_as_it_was(connection, login)
            return remove_messages(connection, mailbox, some, self._now())

        removed = 0
        damaged: list[int] = []
        for start in range(0, len(uids), AT_ONCE):
            began = time.monotonic()
            parts, refused = await in_halves(
                self._writer,
                uids[start : start + AT_ONCE],
                remove,
                lambda removed: notices.of_mailbox(mailbox) if removed else [],
                patient=len(uids) > AT_ONCE,
            )
            removed += sum(parts)
            damaged += refused
            if start + AT_ONCE < len(uids):
                await give_way(began)
        if damaged:
            raise Damaged(
                f"{counted(len(damaged), 'message')} of mailbox {mailbox} not removed: run `waypost storage check`"
            )
        return removed

    async def lock(self, mailbox: int) -> FileLock:
        """Hold a mailbox against other exclusive sessions. Raises `Conflict`."""
        return lock_mailbox(self._locks, mailbox)

    async def usage(self, account: int) -> int:
        """Return the octets stored in all mailboxes of an account."""
        return int(self._reading.value("SELECT usage FROM account WHERE id = ?", (account,)) or 0)


def _flags(value: bytes, mailbox: int, uid: int) -> frozenset[str]:
    if value == b"[]":
        return _NO_FLAGS
    try:
        return frozenset(texts_from(value, "its flags"))
    except Damaged as error:  # a message is worth more than its flags
        fields = {"mailbox": mailbox, "uid": uid, "problem": str(error)}
        log.error("mailbox row damaged", extra={"fields": fields})
        return frozenset()


def _form(growth: object, header: object) -> ContentForm:
    """What a damaged row says of a message is measured anew."""
    return ContentForm(growth if growth is None or isinstance(growth, int) else UNMEASURED, header != 0)


def _json(values: Sequence[Any]) -> str:
    return encode(list(values)).decode()
