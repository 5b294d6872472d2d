"""Values of the database that are more than a number or a name: where they stand, and how to find those of no use.

A row with such a value costs what needs it, and nothing else: the readers in `rows.py` say `Damaged`, and go on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from waypost.message.trace import TraceId, format_trace_id
from waypost.storage.errors import Damaged
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import envelope_from, events_from, recipients_from, texts_from

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Value:
    """A column. `page` selects, by a key that grows from :last on: the key, the message's id or None, the value, and
    the values of `words`."""

    name: str
    page: str
    read: Callable[[str], object]
    words: str
    advice: str
    first: int | str = -1  # smaller than every key


VALUES = (
    Value(
        "recipients of entries",
        "SELECT id, message, CAST(recipients AS BLOB), id, destination FROM entry WHERE id > :last "
        "ORDER BY id LIMIT :page",
        recipients_from,
        "the recipients of entry {0} for {1} can't be read: message {trace}",
        "the entry is held; look for them with `waypost trace`, then remove it with `waypost queue delete`",
    ),
    Value(
        "envelopes",
        "SELECT id, id, CAST(envelope AS BLOB) FROM message WHERE id > :last ORDER BY id LIMIT :page",
        envelope_from,
        "the envelope of message {trace} can't be read",
        "its entries are held; look for its sender with `waypost trace`, then remove them with `waypost queue delete`",
    ),
    Value(
        "events",
        "SELECT id, message, CAST(events AS BLOB) FROM journal WHERE id > :last ORDER BY id LIMIT :page",
        lambda value: events_from(TraceId(0), value),
        "some events of message {trace} can't be read",
        "`waypost trace` tells the others; the row goes with its age",
    ),
    Value(
        "flags",
        "SELECT mailbox << 32 | uid, message, CAST(flags AS BLOB), mailbox, uid FROM mailbox_message "
        "WHERE (mailbox, uid) > (:last >> 32, :last & 0xffffffff) ORDER BY mailbox, uid LIMIT :page",
        lambda value: texts_from(value, "flags"),
        "the flags of message {trace} in mailbox {0} under UID {1} can't be read",
        "it is shown without flags; setting them mends it",
    ),
    Value(
        "aliases",
        "SELECT address, NULL, CAST(targets AS BLOB), address FROM alias WHERE address > :last "
        "ORDER BY address LIMIT :page",
        lambda value: texts_from(value, "targets"),
        "the targets of alias {0} can't be read",
        "set or remove it with `waypost alias`",
        first="",
    ),
)


def unreadable(reading: Reading, value: Value) -> Iterator[tuple[TraceId | None, str]]:
    """Yield what can't be read: the message it is about, if it is about one, and the words. Raises `StorageError`."""
    last = value.first
    while rows := reading.rows(value.page, {"last": last, "page": _PAGE}):
        for key, message, stored, *about in rows:
            last = key
            try:
                value.read(stored)
            except Damaged:
                trace = None if message is None else TraceId(message)
                shown = "" if trace is None else format_trace_id(trace)
                yield trace, value.words.format(*about, trace=shown)
