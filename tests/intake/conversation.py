"""A house with embedded storage in a temporary folder, and conversations with its sessions, byte by byte, no socket."""

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from msgspec import structs
from tests.intake.faults import FaultySpool

from waypost.config.settings import ListenerProtocol, Settings, Tls
from waypost.delivery.plan import Planner
from waypost.delivery.resolve import AddressBook
from waypost.intake import Acceptance, Policy, SmtpSession, server_options
from waypost.intake.memory import ArrivingMemory
from waypost.journal import Event
from waypost.login.outcomes import Challenge, LoginFault, LoginRefused, Welcome
from waypost.message.trace import TraceId, TraceIdMaker, parse_trace_id
from waypost.protocol.session import Next, Peer, TlsInfo
from waypost.queue.reporter import Reporter
from waypost.reception import ReceptionPolicy
from waypost.service.session_makers import trusted_policy
from waypost.storage import Account, Alias, Credentials, Filter, Notice, QueueEntry, Storage, StoredMessage
from waypost.storage.sqlite import SqliteStorage, open_storage
from waypost.submission import SubmissionPolicy

NOW = 1_795_500_000_000_000
SECOND = 1_000_000
CLIENT = Peer("192.0.2.7", 40000, "198.51.100.1", 25)
TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")
MESSAGE = "From: alice@here.test\r\nSubject: Tea\r\n\r\nAt five?\r\n"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


class DoorKeeper:
    """Stands in for the login desk: knows accounts by name, and every password is "secret"."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.fault: LoginFault | None = None

    def mechanisms(self, tls: TlsInfo | None) -> tuple[str, ...]:
        return ("PLAIN", "LOGIN") if tls else ()

    def begin(self, mechanism: str, *, tls: TlsInfo | None, peer: str) -> "DoorKeeper":
        return self

    def give_up(self) -> None:
        return

    async def may_go_on(self, account: Account) -> bool:
        return True

    async def step(self, data: bytes | None) -> Challenge | Welcome:
        if data is None:
            return Challenge(b"")
        if self.fault is not None:
            raise LoginRefused(self.fault, "as the test wants it", seconds=7)
        _, user, password = data.decode().split("\0")
        account = await self._storage.directory.account(user)
        if account is None or password != "secret":
            raise LoginRefused(LoginFault.WRONG, "wrong")
        return Welcome(account)


@dataclass
class House:
    """Everything behind the sessions of one worker."""

    settings: Settings
    storage: Storage
    clock: Clock = field(default_factory=Clock)
    notices: list[Notice] = field(default_factory=list)
    opened: SqliteStorage | None = None

    def __post_init__(self) -> None:
        self.desk = DoorKeeper(self.storage)
        self.ids = TraceIdMaker(0, self.clock)
        self.memory: ArrivingMemory | None = None

    def book(self) -> AddressBook:
        settings = self.settings
        return AddressBook(
            self.storage.directory,
            hostname=settings.hostname,
            hosted=settings.domains,
            routed=[domain for route in settings.routes for domain in route.domains],
            separator=settings.reception.subaddress_separator,
            postmaster=settings.reception.postmaster,
        )

    def acceptance(self) -> Acceptance:
        book = self.book()
        reporter = Reporter(
            spool=self.storage.spool,
            ids=self.ids,
            hostname=self.settings.hostname,
            destination_of=book.destination,
            now=self.clock,
            return_full_below=65536,
        )
        return Acceptance(
            spool=self.storage.spool,
            planner=Planner(book),
            reporter=reporter,
            ids=self.ids,
            hostname=self.settings.hostname,
            limits=self.settings.limits,
            now=self.clock,
        )

    def session(
        self, protocol: ListenerProtocol, *, policy: Policy | None = None, greeting_delay: float = 0.0
    ) -> SmtpSession:
        submits = protocol in (ListenerProtocol.SUBMISSION, ListenerProtocol.SUBMISSIONS)
        if policy is None and submits:
            policy = self.submission_policy()
        trusted = trusted_policy(self.settings, self.book(), self.storage.directory)
        if protocol is ListenerProtocol.TRUSTED_SUBMISSION:
            policy = trusted
        return SmtpSession(
            refuses=trusted.refuse if policy is trusted else lambda peer: None,
            options=server_options(self.settings, protocol),
            policy=policy or self._reception_policy(protocol),
            acceptance=self.acceptance(),
            desk=self.desk if submits else None,  # type: ignore[arg-type]  # it answers as the desk does
            spool=self.storage.spool,
            now=self.clock,
            limits=self.settings.limits,
            greeting_delay=greeting_delay,
            memory=self.memory,
        )

    def submission_policy(self) -> SubmissionPolicy:
        return SubmissionPolicy(
            book=self.book(),
            directory=self.storage.directory,
            settings=self.settings.submission,
            hostname=self.settings.hostname,
            domains=self.settings.domains,
        )

    def _reception_policy(self, protocol: ListenerProtocol) -> ReceptionPolicy:
        names = () if protocol is ListenerProtocol.LMTP else (self.settings.hostname, *self.settings.domains)
        return ReceptionPolicy(book=self.book(), names=names)

    async def reception(self, *, policy: Policy | None = None) -> "Conversation":
        """Return a conversation on port 25 that has said EHLO."""
        talk = Conversation(self.session(ListenerProtocol.SMTP, policy=policy))
        await talk.open()
        await talk.say("EHLO mx.there.test")
        return talk

    async def lmtp(self) -> "Conversation":
        """Return a conversation by LMTP that has said LHLO."""
        talk = Conversation(self.session(ListenerProtocol.LMTP))
        await talk.open()
        await talk.say("LHLO front.test")
        return talk

    async def submission(self, user: str, *, policy: Policy | None = None) -> "Conversation":
        """Return a conversation on port 465 that has logged in."""
        talk = Conversation(self.session(ListenerProtocol.SUBMISSIONS, policy=policy), structs.replace(CLIENT, tls=TLS))
        await talk.open()
        await talk.say("EHLO laptop.test")
        assert (await talk.say("AUTH PLAIN " + plain(user))).startswith("235")
        return talk

    def commits(self) -> int:
        """Return how often the storage has committed."""
        assert self.opened is not None
        return self.opened.commits

    def watch_spool(self) -> FaultySpool:
        """Put a spool between us and storage that counts, and fails when it is told to."""
        spool = FaultySpool(self.storage.spool)
        self.storage = replace(self.storage, spool=spool)
        return spool

    async def account(self, address: str, *, quota: int = 0) -> Account:
        directory = self.storage.directory
        return await directory.add_account(address, Credentials("-", b"", 1, b"", b""), quota=quota, now=NOW)

    async def alias(self, address: str, *targets: str) -> None:
        await self.storage.directory.set_alias(Alias(address, targets))

    async def inbox(self, address: str) -> list[bytes]:
        """Return the messages in an account's inbox, head included."""
        account = await self.storage.directory.account(address)
        assert account is not None
        found = await self.storage.mailboxes.messages(account.inbox)
        return [await octets(await self.storage.mailboxes.open(account.inbox, one.uid)) for one in found]

    async def queued(self) -> list[QueueEntry]:
        """Return all queue entries."""
        return [entry async for entry in self.storage.queue.entries(Filter(), now=self.clock.now)]

    async def stored(self, trace: TraceId) -> bytes:
        return await octets(await self.storage.spool.open(trace))

    async def events(self, reply: str) -> list[Event]:
        """Return the journal of the message that a reply acknowledged."""
        return await self.storage.journal.of(trace_of(reply))


class Conversation:
    """Talks with one session, as the connection and the client would."""

    def __init__(self, session: SmtpSession, peer: Peer = CLIENT) -> None:
        self.session = session
        self.peer = peer
        self.next = Next.READ

    async def open(self) -> str:
        """Connect; returns the greeting."""
        self.next = await self.session.start(self.peer)
        return self.session.take_output().decode()

    async def send(self, data: bytes) -> str:
        """Send octets; returns what the session wrote for them, with its line ends."""
        self.session.receive(data)
        self.next = await self.session.advance()
        return self.session.take_output().decode()

    async def say(self, *lines: str) -> str:
        """Send lines; returns the last reply, without its line end."""
        written = await self.send("".join(line + "\r\n" for line in lines).encode())
        return written.split("\r\n")[-2] if written else ""

    async def message(self, sender: str, *recipients: str, content: str | bytes = MESSAGE, parameters: str = "") -> str:
        """Send a message in one transaction; returns the last reply, be it a refusal on the way."""
        reply = await self.say(f"MAIL FROM:<{sender}>{' ' + parameters if parameters else ''}")
        if not reply.startswith("250"):
            return reply
        for recipient in recipients:
            reply = await self.say(f"RCPT TO:{recipient if '>' in recipient else f'<{recipient}>'}")
        if not (started := await self.say("DATA")).startswith("354"):
            return reply if started.startswith("554 5.5.1") else started
        octets_ = content.encode() if isinstance(content, str) else content
        written = await self.send(octets_.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return written.rstrip("\r\n")

    def hang_up(self) -> None:
        """The connection is gone."""
        self.session.receive_eof()
        self.session.closed()


def plain(user: str, password: str = "secret") -> str:
    """Return the base64 of a PLAIN login."""
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def trace_of(reply: str) -> TraceId:
    """Return the trace id that a reply names."""
    return parse_trace_id(reply.split()[-1])


async def octets(message: StoredMessage) -> bytes:
    """Return all octets of a stored message."""
    return await message.read(0, message.size)


async def open_house(
    folder: Path,
    change: Callable[[Settings], Settings] = lambda settings: settings,
    accounts: Sequence[str] = ("alice@here.test", "bob@here.test"),
) -> AsyncIterator[House]:
    """Yield a house of here.test with alice and bob; `accounts` are made anew."""
    settings = change(
        Settings(
            path=folder / "waypost.toml",
            hostname="mx.here.test",
            domains=("here.test", "xn--exmple-cua.test"),
            data=folder / "data",
            tls=Tls(folder / "cert.pem", folder / "key.pem"),
        )
    )
    notices: list[Notice] = []
    clock = Clock()
    opened = await open_storage(
        settings.data,
        now=clock,
        worker=0,
        publish=notices.append,
        memory_per_message=settings.limits.memory_per_message,
    )
    house = House(settings, opened.storage, clock, notices, opened)
    for address in accounts:
        await house.account(address)
    try:
        yield house
    finally:
        await opened.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A house with alice and bob."""
    async for opened in open_house(tmp_path):
        yield opened
