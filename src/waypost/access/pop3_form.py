"""In which form a stored message goes to a POP3 client, and how many octets that is (RFC 1939 3 and 11, RFC 6856 2.1).

Nearly every message goes out as it is stored. One that is not made of CRLF lines is sent as such lines, and a header
with UTF-8 gets a surrogate where the client has not said UTF8. What LIST and STAT say is exactly what is sent.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from waypost.message.headers import fields_end
from waypost.protocol.canonical import UNMEASURED, CanonicalLines
from waypost.protocol.pop3.surrogate import surrogate
from waypost.storage import Mailboxes, MailboxMessage, StorageError, StoredMessage

MAX_HEADER = 1024 * 1024
"""Octets: a header that is longer is sent as it is."""

_PIECE = 16 * 1024  # octets that are read to find the end of a header
_MOST_REMEMBERED = 50_000


@dataclass(frozen=True, slots=True)
class SentForm:
    """How a message leaves for one session: its size in octets on the wire, before dots are doubled, and what is done.

    `lines`: it becomes CRLF lines; `header`: its header gets a surrogate; `head`: the stored head, where that alone
    gets one.
    """

    size: int
    lines: bool = False
    header: bool = False
    head: bytes = b""

    def opening(self, octets: bytes) -> bytes:
        """Return what is sent for the beginning of the message, which holds its whole header."""
        if self.header:
            end = fields_end(octets)
            return octets if end > MAX_HEADER else surrogate(octets[:end]) + octets[end:]
        return surrogate(self.head) + octets[len(self.head) :] if self.head else octets


def whole_header(opening: bytes) -> bool:
    """True when the octets hold the end of the header, or so many that nobody looks for it any more."""
    return b"\r\n\r\n" in opening or len(opening) >= MAX_HEADER


class SentForms:
    """Finds the forms of messages. What had to be read for it is remembered, for all sessions of a process."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes
        self._growth: OrderedDict[tuple[int, int, bool], int] = OrderedDict()

    async def of(self, message: MailboxMessage, *, utf8: bool) -> SentForm:
        """Return the form of a message; `utf8`: the client takes UTF-8 in headers. Raises `StorageError`."""
        growth = message.form.growth
        form = SentForm(
            size=message.size + (growth or 0),
            lines=growth is not None,
            header=message.form.eight_bit_header and not utf8,
            head=b"" if utf8 or message.form.eight_bit_header else message.head,
        )
        if form.head:
            return replace(form, size=form.size + len(surrogate(form.head)) - len(form.head))
        if not form.header and growth != UNMEASURED:
            return form
        return replace(form, size=message.size + await self._measured(message, form))

    async def _measured(self, message: MailboxMessage, form: SentForm) -> int:
        """Return how many octets a message gains, which only reading it can tell."""
        key = message.mailbox, message.uid, form.header
        known = self._growth.get(key)
        if known is not None:
            self._growth.move_to_end(key)
            return known
        await asyncio.sleep(0)  # there may be many of them, and other sessions wait
        try:
            growth = await self._read(await self._mailboxes.open(message.mailbox, message.uid), message, form)
        except StorageError:
            return 0  # the client, and the log, hear of it when the message is asked for
        self._growth[key] = growth
        if len(self._growth) > _MOST_REMEMBERED:
            self._growth.popitem(last=False)
        return growth

    async def _read(self, stored: StoredMessage, message: MailboxMessage, form: SentForm) -> int:
        growth = message.form.growth or 0
        if growth == UNMEASURED:
            growth = await _lines_growth(stored)
        if form.header:
            opening = b""
            async for piece in beginning(stored):
                opening += piece
                if whole_header(opening):
                    break
            growth += len(form.opening(opening)) - len(opening)
        return growth


async def beginning(message: StoredMessage) -> AsyncIterator[bytes]:
    """Yield a message in small pieces, read one by one: of a large one the rest may not be wanted."""
    position = 0
    while position < message.size:
        piece = await message.read(position, _PIECE)
        position += len(piece)
        yield piece


async def _lines_growth(stored: StoredMessage) -> int:
    lines, sent = CanonicalLines(), 0
    async for piece in stored.chunks():
        sent += len(lines.convert(piece))
    return sent + len(lines.finish()) - stored.size
