"""A mailbox that one POP3 session holds: its lock, the snapshot of the login, its messages' octets (RFC 1939 4)."""

import logging
from collections.abc import AsyncIterator, Callable

from waypost.access.pop3_form import SentForm, SentForms, beginning, whole_header
from waypost.message.trace import Micros
from waypost.protocol.canonical import PLAIN, CanonicalLines
from waypost.protocol.pop3.maildrop import Maildrop
from waypost.storage import Account, Mailboxes, MailboxLock

log = logging.getLogger(__name__)

_PIECE = 64 * 1024


class OpenMailbox:
    """The INBOX of an account, held against other sessions until `release`."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        account: Account,
        lock: MailboxLock,
        maildrop: Maildrop,
        forms: dict[int, SentForm],
        now: Callable[[], Micros],
    ) -> None:
        self._mailboxes = mailboxes
        self._account = account
        self._lock = lock
        self._forms = forms  # by index, of the few messages that do not go out as they are stored
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
    async def open(
        mailboxes: Mailboxes, forms: SentForms, account: Account, now: Callable[[], Micros], *, utf8: bool
    ) -> "OpenMailbox":
        """Lock the INBOX, then look into it. `utf8`: the client takes headers with UTF-8 (RFC 6856 2.1).

        Raises `Conflict` when another session has it, `StorageError`.
        """
        lock = await mailboxes.lock(account.inbox)
        try:
            inbox = await mailboxes.get(account.id)
            maildrop = Maildrop(inbox.uidvalidity)
            special: dict[int, SentForm] = {}
            async for page in mailboxes.pages(inbox.id):
                for message in page:
                    size = message.size
                    if message.form is not PLAIN or message.head:
                        form = special[maildrop.total] = await forms.of(message, utf8=utf8)
                        size = form.size
                    maildrop.add(message.uid, size)
        except BaseException:
            lock.release()
            raise
        return OpenMailbox(mailboxes, account, lock, maildrop, special, now)

    async def pieces(self, index: int, *, top: bool) -> AsyncIterator[bytes]:
        """Yield the octets of a message as they go to the client: whole lines that end with CRLF, without NUL.

        `top`: in small pieces, of which only the first may be wanted. Raises `StorageError`.
        """
        message = await self._mailboxes.open(self._account.inbox, self.maildrop.uid(index))
        source = beginning(message) if top else message.chunks(_PIECE)
        form = self._forms.get(index)
        if form is not None:
            source = _converted(source, form)
        opening = b""
        async for piece in source:
            opening += piece
            if len(opening) >= _PIECE or top:
                break  # a small message is one piece, and one write
        yield opening
        async for piece in source:
            yield piece

    def sent(self, index: int) -> None:
        """Count a message that was sent whole."""
        self.retrieved += 1
        self.octets += self.maildrop.size(index)

    async def remove(self, indexes: tuple[int, ...]) -> None:
        """Remove messages, in steps. Raises `StorageError`: then some or all are still there (RFC 1939 6).

        `AccountChanged`: the account was closed or has a new password since the login, and removes nothing more.
        """
        if indexes:
            uids = [self.maildrop.uid(index) for index in indexes]
            self.removed = await self._mailboxes.expunge(self._account.inbox, uids, self._account.as_it_is)

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


async def _converted(source: AsyncIterator[bytes], form: SentForm) -> AsyncIterator[bytes]:
    lines = CanonicalLines() if form.lines else None
    opening = b""
    async for piece in source:
        opening += piece
        if not (form.header or form.head) or whole_header(opening):
            break
    opening = form.opening(opening)
    yield lines.convert(opening) if lines else opening
    async for piece in source:
        yield lines.convert(piece) if lines else piece
    if lines:
        yield lines.finish()
