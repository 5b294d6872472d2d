"""The audit of every test here: what was acknowledged is in a mailbox, in the queue, at the next host, or returned."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tests.faults.callers import Caller
from tests.faults.office import Office
from tests.transport.mail_server import MailServer

from waypost.storage import QueueEntry, StorageError, StoredMessage

_TOKEN = re.compile(rb"X-Token: (t[0-9]+)")
_FINAL = re.compile(rb"Final-Recipient: rfc822; ?([^\r\n]+)", re.IGNORECASE)

Mail = tuple[str, str]
"""A message's token, and one recipient."""


@dataclass
class Found:
    """Where mail is now."""

    mailboxes: Counter[Mail] = field(default_factory=Counter)
    queue: Counter[Mail] = field(default_factory=Counter)
    relayed: Counter[Mail] = field(default_factory=Counter)
    returned: Counter[Mail] = field(default_factory=Counter)
    damaged: int = 0
    """Messages that can't be read."""

    @property
    def everywhere(self) -> Counter[Mail]:
        """All of it; a report counts as one place."""
        return self.mailboxes + self.queue + self.relayed + self.returned


class Ledger:
    """Hands out messages, and remembers what became of them in the eyes of their senders."""

    def __init__(self) -> None:
        self.acknowledged: set[Mail] = set()
        self.refused: dict[str, str] = {}
        """Replies by token."""
        self.unsure: set[str] = set()
        """Tokens whose senders had no answer."""
        self._serial = 0

    def letter(self, size: int = 0) -> tuple[str, bytes]:
        """Return a token and a message that bears it, of about `size` octets."""
        self._serial += 1
        token = f"t{self._serial}"
        line = b"How do you do, and how is your garden?\r\n"
        return token, b"From: <alice@here.test>\r\nX-Token: %s\r\n\r\n" % token.encode() + line * (
            1 + size // len(line)
        )

    async def post(self, caller: Caller, sender: str, *recipients: str, size: int = 0) -> str:
        """Send a message and enter the answer; return it."""
        token, content = self.letter(size)
        self.unsure.add(token)
        reply = await caller.message(sender, list(recipients), content)
        self.enter(token, recipients, reply)
        return reply

    def enter(self, token: str, recipients: Iterable[str], reply: str) -> None:
        """Enter the answer to a message; "" when there was none."""
        self.unsure.add(token)
        if reply[:1] == "2":
            self.acknowledged.update((token, recipient) for recipient in recipients)
            self.unsure.discard(token)
        elif reply:
            self.refused[token] = reply
            self.unsure.discard(token)

    async def audit(self, office: Office, *servers: MailServer, twice: int = 0) -> Found:
        """Check that nothing is lost, doubled (but for so many relays whose answer was in flight) or half taken."""
        return self._check(await look(office, *servers), self.acknowledged, twice)

    async def audit_of(self, office: Office, tokens: Collection[str], *servers: MailServer) -> Found:
        """Check the same where the octets of all other messages are damaged."""
        mail = {one for one in self.acknowledged if one[0] in tokens}
        return self._check(await look(office, *servers), mail, 0)

    def _check(self, found: Found, acknowledged: set[Mail], twice: int) -> Found:
        everywhere = found.everywhere
        lost = acknowledged - everywhere.keys()
        assert not lost, f"lost: {sorted(lost)}"
        extra = {mail: count for mail, count in everywhere.items() if count > 1}
        assert sum(count - 1 for count in extra.values()) <= twice, f"twice: {extra}"
        strangers = {token for token, _ in everywhere} & self.refused.keys()
        assert not strangers, f"refused, and stored all the same: {strangers}"
        return found


async def look(office: Office, *servers: MailServer) -> Found:
    """Look for mail everywhere: in mailboxes, in the queue, and at other hosts."""
    found = Found()
    storage = office.storage
    for account in await storage.directory.accounts():
        for row in await storage.mailboxes.messages(account.inbox):
            await _enter(found, await storage.mailboxes.open(account.inbox, row.uid), account.address)
    for entry in await office.queued():
        await _enter(found, await storage.spool.open(entry.trace), entry)
    for server in servers:
        for taken in server.taken:
            _sort(found, taken.content, found.relayed, taken.recipients)
    return found


async def _enter(found: Found, message: StoredMessage, place: str | QueueEntry) -> None:
    try:
        octets = b"".join([chunk async for chunk in message.chunks()])
    except StorageError:
        found.damaged += 1
        return
    if isinstance(place, str):
        _sort(found, octets, found.mailboxes, [place])
    else:
        _sort(found, octets, found.queue, [str(recipient.address) for recipient in place.recipients])


def _sort(found: Found, octets: bytes, place: Counter[Mail], recipients: Iterable[str]) -> None:
    token = _TOKEN.search(octets)
    if token is None:
        return
    name = token[1].decode()
    if b"multipart/report" in octets:
        found.returned.update((name, final.decode()) for final in _FINAL.findall(octets))
    else:
        place.update((name, recipient) for recipient in recipients)
