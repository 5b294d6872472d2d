"""A mailbox that one POP3 session holds: its lock, the snapshot of the login, its messages' octets (RFC 1939 4)."""

import logging
from collections.abc import AsyncIterator, Callable

from waypost.message.trace import Micros
from waypost.protocol.pop3.maildrop import Maildrop
from waypost.protocol.pop3.surrogate import needs_surrogate, surrogate
from waypost.storage import Account, Mailboxes, MailboxLock, StoredMessage

log = logging.getLogger(__name__)

_PIECE = 64 * 1024
_TOP_PIECE = 16 * 1024  # enough for most headers: the rest of a large message is not read
_MAX_HEADER = 1024 * 1024  # a longer one is sent as it is


class OpenMailbox:
    """The INBOX of an account, held against other sessions until `release`."""

    def __init__(
        self, mailboxes: Mailboxes, account: Account, lock: MailboxLock, maildrop: Maildrop, now: Callable[[], Micros]
    ) -> None:
        self._mailboxes = mailboxes
        self._account = account
        self._lock = lock
        self._now = now
        self._opened_at = now()
        self.maildrop = maildrop
        self.retrieved = 0
        """Messages that were sent whole."""
        self.octets = 0
        """Octets of those."""
        self.removed = 0
        """Messages that were removed at QUIT."""

    @staticmethod
    async def open(mailboxes: Mailboxes, account: Account, now: Callable[[], Micros]) -> "OpenMailbox":
        """Lock the INBOX, then look into it. Raises `Conflict` when another session has it, `StorageError`."""
        lock = await mailboxes.lock(account.inbox)
        try:
            inbox = await mailboxes.get(account.id)
            messages = await mailboxes.messages(inbox.id)
        except BaseException:
            lock.release()
            raise
        maildrop = Maildrop(inbox.uidvalidity, ((message.uid, message.size) for message in messages))
        return OpenMailbox(mailboxes, account, lock, maildrop, now)

    async def pieces(self, index: int, *, top: bool, utf8: bool) -> AsyncIterator[bytes]:
        """Yield the octets of a message; `top`: in small pieces, of which only the first may be wanted.

        Without `utf8` a header with UTF-8 is replaced (RFC 6856 2.1). Raises `StorageError`.
        """
        message = await self._mailboxes.open(self._account.inbox, self.maildrop.uid(index))
        source = _beginning(message) if top else message.chunks(_PIECE)
        opening = b""
        async for piece in source:
            opening += piece
            if len(opening) < (_TOP_PIECE if top else _PIECE):
                continue  # a small message is one piece, and one write
            if utf8 or opening.isascii() or b"\r\n\r\n" in opening or len(opening) >= _MAX_HEADER:
                break
        yield opening if utf8 or opening.isascii() else _without_utf8(opening)
        async for piece in source:
            yield piece

    def sent(self, index: int) -> None:
        """Count a message that was sent whole."""
        self.retrieved += 1
        self.octets += self.maildrop.size(index)

    async def remove(self, indexes: tuple[int, ...]) -> None:
        """Remove messages, all in one commit. Raises `StorageError`: then all are still there."""
        if indexes:
            uids = [self.maildrop.uid(index) for index in indexes]
            self.removed = await self._mailboxes.expunge(self._account.inbox, uids)

    def release(self) -> None:
        """Give the mailbox back; may be called twice."""
        self._lock.release()

    def log_closed(self, peer: str) -> None:
        """Log what the session did."""
        fields = {
            "account": self._account.address,
            "peer": peer,
            "retrieved": self.retrieved,
            "octets": self.octets,
            "removed": self.removed,
            "seconds": (self._now() - self._opened_at) // 1_000_000,
        }
        log.info("mailbox closed", extra={"fields": fields})


async def _beginning(message: StoredMessage) -> AsyncIterator[bytes]:
    """Yield a message in small pieces, read one by one."""
    position = 0
    while position < message.size:
        piece = await message.read(position, _TOP_PIECE)
        position += len(piece)
        yield piece


def _without_utf8(opening: bytes) -> bytes:
    end = opening.find(b"\r\n\r\n")
    header = opening if end < 0 else opening[:end]
    if len(header) >= _MAX_HEADER or not needs_surrogate(header):
        return opening
    return surrogate(header) + opening[len(header) :]
