"""POP3 sessions over real mailboxes: what a client sees, what stays when it goes, and who gets in."""

import asyncio
import base64
import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from msgspec import structs
from tests.storage.letters import HEAD, Engine, Letters

from waypost.access.pop3 import LOGIN_TIMEOUT, Pop3Session
from waypost.login.desk import LoginDesk
from waypost.login.passwords import make_credentials
from waypost.protocol.canonical import UNMEASURED
from waypost.protocol.pop3 import replies
from waypost.protocol.sasl import choose
from waypost.protocol.session import Ending, Next, Peer, TlsInfo
from waypost.storage import (
    Account,
    AccountVersion,
    MailboxDelivery,
    MailboxMessage,
    Storage,
    StorageError,
    StoredMessage,
)

BOB = "bob@builder.test"
PASSWORD = "can we fix it?"
CREDENTIALS = make_credentials(PASSWORD)
FRONT = b"Return-Path: <>\r\n" + HEAD
TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", server_end_point=b"e" * 32)
PEER = Peer("192.0.2.1", 40000, "192.0.2.2", 995, TLS)
LOGIN = f"USER {BOB}\r\nPASS {PASSWORD}\r\n".encode()


class Client:
    """A client at the other end of a session."""

    def __init__(self, session: Pop3Session) -> None:
        self.session = session
        self.next = Next.READ

    async def send(self, data: bytes) -> bytes:
        self.session.receive(data)
        self.next = await self.session.advance()
        return self.session.take_output()

    async def lines(self, data: bytes) -> list[bytes]:
        return (await self.send(data)).split(b"\r\n")[:-1]


@dataclass
class Post:
    """Bob's mailbox, and a desk at which he logs in."""

    storage: Storage
    letters: Letters
    desk: LoginDesk
    bob: Account
    engine: Engine

    async def sleep(self, seconds: float) -> None:
        self.engine.clock.time += int(seconds * 1_000_000)

    def session(self, *, starttls: bool = False, max_junk: int = 100) -> Pop3Session:
        return Pop3Session(
            desk=self.desk,
            mailboxes=self.storage.mailboxes,
            now=self.engine.clock,
            hostname="mx.builder.test",
            starttls=starttls,
            max_junk=max_junk,
        )

    async def client(self, peer: Peer = PEER) -> Client:
        client = Client(self.session())
        assert await client.session.start(peer) is Next.READ
        assert client.session.take_output() == b"+OK mx.builder.test POP3 ready\r\n"
        return client

    async def logged_in(self) -> Client:
        client = await self.client()
        answer = await client.send(LOGIN)
        assert answer.count(b"+OK") == 2, answer
        return client

    async def deliver(self, *messages: bytes) -> None:
        for message in messages:
            await self.letters.post(message, mailboxes=[self.bob.inbox])

    async def uids(self) -> list[int]:
        return [message.uid for message in await self.storage.mailboxes.messages(self.bob.inbox)]


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    engine = Engine("sqlite", tmp_path / "data")
    storage = (await engine.open()).storage
    bob = await storage.directory.add_account(BOB, CREDENTIALS, quota=0, now=engine.clock())
    post: Post

    async def sleep(seconds: float) -> None:
        await post.sleep(seconds)

    desk = LoginDesk(storage.directory, storage.networks, now=engine.clock, sleep=sleep)
    post = Post(storage, Letters(storage, engine.clock), desk, bob, engine)
    yield post
    desk.close()
    await engine.close()


# Reading.


async def test_the_octets_that_arrived_are_the_octets_that_are_read(post: Post) -> None:
    messages = [b"Subject: one\r\n\r\n.\r\n..two\r\n", b"Subject: no end\r\n\r\nlast", b"\r\n\xff\r\n"]
    await post.deliver(*messages)
    client = await post.logged_in()
    sizes = []
    for number, message in enumerate(messages, 1):
        whole = FRONT + message if message.endswith(b"\r\n") else FRONT + message + b"\r\n"
        sizes.append(len(whole))
        answer = await client.send(b"RETR %d\r\n" % number)
        assert answer == b"+OK %d octets\r\n" % len(whole) + whole.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    assert (await client.lines(b"LIST\r\n"))[1:-1] == [b"%d %d" % pair for pair in enumerate(sizes, 1)]
    assert await client.lines(b"STAT\r\n") == [b"+OK 3 %d" % sum(sizes)]


TAKEOVER = (
    b"From: a@ext.test\r\nSubject: evil\r\n\r\nbefore\n.\n+OK 99 octets\nFrom: boss@one.test\nSubject: forged\n\n"
    b"forged text\n.\n+OK gone\n+OK gone\n+OK bye\nrest\r\n"
)
BINARIES = [
    TAKEOVER,
    TAKEOVER.replace(b"\n", b"\r").replace(b"\r\r", b"\r\n"),
    TAKEOVER.replace(b"before\n.", b"before\r\n.\0").replace(b"text\n.\n", b"text\r\0\n.\0\r\0\n"),
    *(
        b"Subject: x\r\n\r\n" + body
        for body in (b"\0", b"\r", b"\n", b"\0\r", b"a\r\0", b"\n.\r.\n", b"\r\r\n.", b"a\n\0")
    ),
    b"Subject: x\r\n\r\n" + b"\r" * 70_000 + b"\n.\n",
    b"Subject: x\r\n\r\n" + (b"a" * 16383 + b"\r\n.\r\n" + b"b" * 50_000 + b"\0\n.") * 9,
    b"Subject: no blank line",
    b"",
]


def unstuffed(answer: bytes) -> tuple[int, bytes]:
    """Read the answer to RETR as the strictest client does; return the size that it says, and the message."""
    status, _, rest = answer.partition(b"\r\n")
    assert rest.endswith(b".\r\n") and b"\0" not in rest
    assert rest.count(b"\n") == rest.count(b"\r") == rest.count(b"\r\n"), "a line that ends with something else"
    lines = rest.removesuffix(b".\r\n").split(b"\r\n")
    assert lines.pop() == b"" and b"." not in lines, "the message would end here"
    assert all(not line.startswith(b".") or line.startswith(b"..") for line in lines)
    return int(status.split()[1]), b"".join(line[line.startswith(b".") :] + b"\r\n" for line in lines)


async def sizes_of(client: Client) -> list[int]:
    sizes = [int(line.split()[1]) for line in (await client.lines(b"LIST\r\n"))[1:-1]]
    assert await client.lines(b"STAT\r\n") == [b"+OK %d %d" % (len(sizes), sum(sizes))]
    return sizes


@pytest.mark.parametrize("utf8", [b"", b"UTF8\r\n"])
async def test_no_content_can_end_itself_and_every_size_is_that_of_what_is_sent(post: Post, utf8: bytes) -> None:
    await post.deliver(*BINARIES)
    client = await post.client()
    await client.send(utf8 + LOGIN)
    sizes = await sizes_of(client)
    for number, message in enumerate(BINARIES, 1):
        said, sent = unstuffed(await client.send(b"RETR %d\r\n" % number))
        expected = (FRONT + message).replace(b"\0", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        expected = (
            expected.replace(b"\n", b"\r\n") if expected.endswith(b"\n") else expected.replace(b"\n", b"\r\n") + b"\r\n"
        )
        assert sent == expected
        assert said == sizes[number - 1] == len(sent), message[:80]
        assert unstuffed(await client.send(b"TOP %d 1000000\r\n" % number)) == (said, sent)
        for lines in range(3):
            top = unstuffed(await client.send(b"TOP %d %d\r\n" % (number, lines)))[1]
            assert sent.startswith(top.removesuffix(b"\r\n"))


SURROGATES = [
    "From: J\u00f6rg <j\u00f6rg@b\u00fccher.test>\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nK\u00f6rper\r\n",
    "From: mjl@h\u00e9.example\r\n\r\n",
    "Subject: caf\u00e9\r\nno blank line, and the t\u00e9xt\r\n",
    "Subject: caf\u00e9",
    "X: ascii\r\n\r\nK\u00f6rper",
    "\r\nno header, \u00e9\r\n",
    "Subject: " + "\u0430" * 20_000 + "\r\n\r\ntext\r\n",
    "X: y\r\n" * 5000 + "Subject: \u00e9\r\n\r\n" + ".\u00e9\r\n" * 20_000,
]


@pytest.mark.parametrize("utf8", [b"", b"UTF8\r\n"])
async def test_every_size_is_that_of_what_is_sent_with_utf8_in_the_header_too(post: Post, utf8: bytes) -> None:
    messages = [message.encode() for message in SURROGATES] + [b"Subject: \xff\r\n\r\nlatin\r\n"]
    await post.deliver(*messages)
    for message in ("Subject: \u00e9\r\n\r\na\n.\n", "X: y\r\n\r\nplain\r\n"):
        letter = await post.letters.letter(message.encode(), mailboxes=[post.bob.inbox])
        head = "Return-Path: <>\r\nDelivered-To: <\u00e9@builder.test>\r\n".encode()
        deliveries = (MailboxDelivery(post.bob.inbox, head),)
        await post.storage.spool.accept(structs.replace(letter, deliveries=deliveries))
    client = await post.client()
    await client.send(utf8 + LOGIN)
    sizes = await sizes_of(client)
    assert len(sizes) == len(messages) + 2
    for number, size in enumerate(sizes, 1):
        said, sent = unstuffed(await client.send(b"RETR %d\r\n" % number))
        assert said == size == len(sent)
        header = sent.partition(b"\r\n\r\n")[0]
        if not utf8 and number != len(messages):
            assert header.isascii() or b"\r\n\r\n" not in sent
        top = unstuffed(await client.send(b"TOP %d 0\r\n" % number))[1]
        assert sent.startswith(top)


async def test_a_body_behind_a_header_without_a_blank_line_keeps_its_letters(post: Post) -> None:
    await post.deliver("Subject: caf\u00e9\r\n\u044d\u0442\u043e \u0442\u0435\u043a\u0441\u0442\r\n".encode())
    client = await post.logged_in()
    answer = await client.send(b"RETR 1\r\n")
    assert "\u044d\u0442\u043e \u0442\u0435\u043a\u0441\u0442\r\n".encode() in answer and b"Subject: =?utf-8?" in answer


async def test_messages_from_before_their_form_was_kept_are_measured_when_they_are_listed(post: Post) -> None:
    await post.deliver(TAKEOVER, b"Subject: plain\r\n\r\ntext\r\n", "Subject: \u00e9\r\n\r\n".encode())
    connection = apsw.Connection(str(post.engine.data / "waypost.db"))
    connection.execute(f"UPDATE message SET growth = iif(growth IS NULL, NULL, {UNMEASURED}), eight_bit_header = 1")
    connection.close()
    client = await post.logged_in()
    sizes = await sizes_of(client)
    for number, size in enumerate(sizes, 1):
        said, sent = unstuffed(await client.send(b"RETR %d\r\n" % number))
        assert said == size == len(sent)


async def test_a_large_message_is_streamed_and_its_top_is_read_alone(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"".join(b".line %d\r\n" % number for number in range(60_000))
    await post.deliver(b"Subject: large\r\n\r\n" + body)
    client = await post.logged_in()
    answer = await client.send(b"RETR 1\r\n")
    assert answer.endswith(b"\r\n\r\n" + body.replace(b"\r\n.", b"\r\n..").replace(b".", b"..", 1) + b".\r\n")
    reads: list[int] = []
    real = post.storage.mailboxes.open

    async def watched(mailbox: int, uid: int) -> StoredMessage:
        message = await real(mailbox, uid)
        read = message.read

        class Watched:
            size = message.size
            chunks = None

            async def read(self, start: int, length: int) -> bytes:
                reads.append(length)
                return await read(start, length)

        return Watched()  # type: ignore[return-value]

    monkeypatch.setattr(post.storage.mailboxes, "open", watched)
    answer = await client.send(b"TOP 1 2\r\n")
    assert answer.split(b"\r\n", 1)[1] == FRONT + b"Subject: large\r\n\r\n..line 0\r\n..line 1\r\n.\r\n"
    assert len(reads) == 1 and sum(reads) < 20_000


async def test_a_session_sees_the_mailbox_of_its_login(post: Post) -> None:
    await post.deliver(b"\r\none\r\n")
    client = await post.logged_in()
    await post.deliver(b"\r\ntwo\r\n")
    assert (await client.send(b"STAT\r\n")).startswith(b"+OK 1 ")
    await client.send(b"QUIT\r\n")
    client.session.closed()
    client = await post.logged_in()
    assert (await client.send(b"STAT\r\n")).startswith(b"+OK 2 ")


async def test_unique_ids_outlive_sessions_and_never_come_back(post: Post) -> None:
    await post.deliver(b"\r\none\r\n", b"\r\ntwo\r\n")
    client = await post.logged_in()
    first = (await client.lines(b"UIDL\r\n"))[1:-1]
    await client.send(b"DELE 1\r\nQUIT\r\n")
    client.session.closed()
    await post.deliver(b"\r\nthree\r\n")
    client = await post.logged_in()
    second = (await client.lines(b"UIDL\r\n"))[1:-1]
    ids = [line.split()[1] for line in first + second]
    assert ids[1] == ids[2] and len(set(ids)) == 3
    assert all(len(unique) <= 70 and unique.isascii() for unique in ids)


async def test_mail_with_utf8_in_its_header_is_read_as_it_is_after_utf8_and_in_ascii_without(post: Post) -> None:
    message = "From: J\u00f6rg <j\u00f6rg@b\u00fccher.test>\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nK\u00f6rper\r\n".encode()
    body = "Subject: ascii\r\n\r\nK\u00f6rper\r\n".encode()
    latin = b"Subject: caf\xe9\r\n\r\n"
    await post.deliver(message, body, latin)
    client = await post.client()
    answer = await client.send(b"UTF8\r\n" + LOGIN + b"RETR 1\r\n")
    assert FRONT + message in answer
    client.session.closed()
    client = await post.logged_in()
    answer = await client.send(b"RETR 1\r\n")
    header, _, text = answer.partition(b"\r\n\r\n")
    assert header.isascii() and b"\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=" in header
    assert text == "K\u00f6rper\r\n.\r\n".encode()
    assert (await client.send(b"TOP 1 0\r\n")).isascii()
    assert FRONT + body in await client.send(b"RETR 2\r\n")
    assert FRONT + latin in await client.send(b"RETR 3\r\n")


# Removing.


async def test_messages_are_removed_at_quit_in_one_go(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    await post.deliver(*[b"\r\n%d\r\n" % number for number in range(4)])
    uids = await post.uids()
    with caplog.at_level(logging.INFO, logger="waypost.access"):
        client = await post.logged_in()
        await client.send(b"RETR 3\r\nDELE 1\r\nDELE 3\r\n")
        assert await post.uids() == uids
        assert client.session.busy
        assert await client.send(b"QUIT\r\n") == b"+OK Goodbye\r\n"
        assert client.next is Next.CLOSE
        assert await post.uids() == [uids[1], uids[3]]
        client.session.closed()
    opened, closed = (record.__dict__["fields"] for record in caplog.records)
    assert [record.message for record in caplog.records] == ["mailbox opened", "mailbox closed"]
    assert opened["account"] == BOB and opened["messages"] == 4 and opened["mechanism"] == "USER"
    assert opened["tls"] == "TLSv1.3 TLS_AES_256_GCM_SHA384" and opened["peer"] == PEER.address
    octets = len(FRONT) + 5
    assert (closed["retrieved"], closed["octets"], closed["removed"]) == (1, octets, 2)


@pytest.mark.parametrize("way", ["eof", "time-out", "stop", "lost", "rset"])
async def test_nothing_is_removed_without_quit(post: Post, way: str) -> None:
    await post.deliver(b"\r\none\r\n")
    client = await post.logged_in()
    await client.send(b"DELE 1\r\n")
    match way:
        case "eof":
            client.session.receive_eof()
            assert await client.session.advance() is Next.CLOSE
        case "time-out":
            client.session.shut_down(Ending.TIMED_OUT)
            assert client.session.take_output() == b"", "RFC 1939 3"
        case "stop":
            client.session.shut_down(Ending.STOPPING)
            assert client.session.take_output() == replies.SHUTTING_DOWN.line
        case "rset":
            await client.send(b"RSET\r\nQUIT\r\n")
    client.session.closed()
    assert len(await post.uids()) == 1
    await post.logged_in()


async def test_when_removing_fails_the_client_is_told_and_nothing_is_lost(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await post.deliver(b"\r\none\r\n")
    client = await post.logged_in()

    async def full(mailbox: int, uids: list[int], login: AccountVersion) -> int:
        raise StorageError("the disk is full")

    monkeypatch.setattr(post.storage.mailboxes, "expunge", full)
    assert (await client.send(b"DELE 1\r\nQUIT\r\n")).endswith(replies.NOT_REMOVED.line)
    assert client.next is Next.CLOSE and len(await post.uids()) == 1
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "messages not removed"
    ]


# One session at a time.


async def test_a_second_session_is_told_that_the_mailbox_is_in_use(post: Post) -> None:
    first, second = await post.logged_in(), await post.client()
    assert (await second.send(LOGIN)).endswith(b"-ERR [IN-USE] Another session has this mailbox open\r\n")
    assert (await first.send(b"QUIT\r\n")) == b"+OK Goodbye\r\n"
    assert (await second.send(LOGIN)).endswith(b"octets)\r\n"), "at once after QUIT"
    first.session.closed()
    third = await post.client()
    assert b"[IN-USE]" in await third.send(LOGIN), "the first session gives back no lock but its own"
    second.session.closed()
    assert (await third.send(LOGIN)).endswith(b"octets)\r\n"), "when the connection is lost"


async def test_a_mailbox_that_can_not_be_opened_is_not_left_locked(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(mailbox: int) -> AsyncIterator[list[MailboxMessage]]:
        yield []
        raise StorageError("the disk is gone")

    client = await post.client()
    with monkeypatch.context() as patch:
        patch.setattr(post.storage.mailboxes, "pages", broken)
        assert (await client.send(LOGIN)).endswith(replies.INTERNAL.line)
    assert (await client.send(LOGIN)).endswith(b"octets)\r\n")


# Logins.


async def test_wrong_passwords_have_their_response_codes(post: Post) -> None:
    client = await post.client()
    for number in range(20):
        wrong = f"USER {BOB}\r\nPASS wrong{number}\r\n".encode()
        assert (await client.send(wrong)).endswith(b"-ERR [AUTH] Wrong user name or password\r\n")
    client = await post.client()
    answer = await client.send(f"USER {BOB}\r\nPASS one more\r\n".encode())
    assert b"-ERR [SYS/TEMP] Too many failed logins; please try again in " in answer, "RFC 3206"
    assert (await client.send(LOGIN)).endswith(b"octets)\r\n"), "the right one opens"


async def test_an_unknown_channel_binding_is_told_by_its_name(post: Post) -> None:
    client = await post.client()
    first = base64.b64encode(b"p=tls-unique,,n=bob@builder.test,r=abc")
    answer = await client.send(b"AUTH SCRAM-SHA-256-PLUS " + first + b"\r\n")
    assert answer.startswith(b"-ERR unsupported-channel-binding-type")
    assert (await client.send(LOGIN)).endswith(b"octets)\r\n")


@pytest.mark.parametrize(
    "way", [LOGIN.replace(b"fix", b"mend"), b"AUTH PLAIN " + base64.b64encode(b"\0bob\0x") + b"\r\n"]
)
async def test_a_session_that_is_shut_down_waits_for_no_turn(post: Post, way: bytes) -> None:
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    first = await post.client()
    await first.send(f"USER {BOB}\r\nPASS wrong\r\nUSER bob\r\nPASS wrong\r\n".encode())
    post.sleep = sleep
    client = await post.client()
    login = asyncio.create_task(client.send(way))
    await asleep.wait()
    client.session.shut_down(Ending.TIMED_OUT)
    assert b"-ERR" not in await asyncio.wait_for(login, 20), "in silence (RFC 1939 3)"
    assert client.next is Next.CLOSE


async def test_a_client_has_three_minutes_to_log_in(post: Post) -> None:
    client = await post.client()
    assert client.session.lasts == 180
    await client.send(LOGIN)
    assert client.session.lasts == math.inf


async def test_trouble_of_ours_is_temporary(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(address: str) -> Account:
        raise StorageError("the disk is gone")

    client = await post.client()
    monkeypatch.setattr(post.storage.directory, "account", broken)
    assert b"-ERR [SYS/TEMP] " in await client.send(LOGIN)


@pytest.mark.parametrize("offered", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"])
async def test_every_mechanism_opens_the_mailbox(post: Post, offered: str) -> None:
    client = await post.client()
    tls = TLS if offered.endswith("PLUS") else TlsInfo("TLSv1.3", "x")
    mechanism = choose([offered], "BOB@Builder.test", PASSWORD, tls)
    assert mechanism is not None
    answer = await client.send(f"AUTH {offered} ".encode() + base64.b64encode(mechanism.start()) + b"\r\n")
    while answer.startswith(b"+ "):
        answer = await client.send(base64.b64encode(mechanism.step(base64.b64decode(answer[2:]))) + b"\r\n")
    assert mechanism.done and answer == b"+OK 0 messages (0 octets)\r\n"


async def test_sasl_may_be_cancelled_refused_and_tried_again(post: Post) -> None:
    client = await post.client()
    assert await client.lines(b"AUTH PLAIN\r\n*\r\n") == [b"+ ", b"-ERR Authentication cancelled"]
    assert await client.send(b"AUTH PLAIN bm9uc2Vuc2U=\r\n") == replies.AUTH_MALFORMED.line
    assert await client.send(b"AUTH PLAIN " + base64.b64encode(b"\0a\0b") + b"\r\n") == replies.AUTH_FAILED.line
    assert (await client.send(LOGIN)).endswith(b"octets)\r\n")


async def test_stls_resets_the_session_and_makes_passwords_possible(post: Post) -> None:
    session = post.session(starttls=True)
    client = Client(session)
    await session.start(Peer("192.0.2.1", 40000, "192.0.2.2", 110))
    session.take_output()
    assert await client.send(LOGIN) == replies.NEEDS_TLS.line * 2
    assert b"STLS" in await client.lines(b"CAPA\r\n")
    assert await client.send(b"STLS\r\nCAPA\r\n") == b"+OK Begin TLS\r\n"
    assert client.next is Next.START_TLS
    session.tls_started(TLS)
    lines = await client.lines(b"CAPA\r\n")
    assert b"STLS" not in lines and b"SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" in lines
    assert client.next is Next.READ
    assert (await client.send(LOGIN)).endswith(b"octets)\r\n")


async def test_patience_grows_with_the_login(post: Post) -> None:
    client = await post.client()
    assert client.session.timeout == LOGIN_TIMEOUT
    await client.send(LOGIN)
    assert client.session.timeout == 600
    assert not client.session.busy


# Much at once, and trouble on the way.


async def test_pipelined_messages_are_answered_in_one_go_with_bounded_output(post: Post) -> None:
    await post.deliver(*[b"\r\n" + b"x" * 9000 + b"\r\n"] * 10)
    client = await post.logged_in()
    written: list[bytes] = []

    async def drain() -> None:
        written.append(client.session.take_output())

    client.session.drain = drain
    rest = await client.send(b"".join(b"RETR %d\r\n" % (number % 10 + 1) for number in range(200)))
    assert len(written) >= 6 and max(map(len, written)) < 300_000
    assert b"".join((*written, rest)).count(b"+OK 9") == 200
    client.session.drain = None
    answer = await client.send(b"RETR 1\r\n" * 100)
    assert answer.count(b"+OK 9") == 100


async def test_a_lost_connection_ends_the_work_and_gives_the_mailbox_back(post: Post) -> None:
    await post.deliver(b"\r\n" + b"x" * 300_000 + b"\r\n")
    client = await post.logged_in()

    async def drain() -> None:
        raise ConnectionResetError("the connection is gone")

    client.session.drain = drain
    with pytest.raises(ConnectionError):
        await client.send(b"RETR 1\r\n" * 3)
    client.session.closed()
    await post.logged_in()


async def test_a_stop_in_the_middle_of_a_message_leaves_it_without_an_end(post: Post) -> None:
    await post.deliver(b"\r\n" + b"x" * 600_000 + b"\r\n")
    client = await post.logged_in()
    written: list[bytes] = []
    waiting = asyncio.Event()
    release = asyncio.Event()

    async def drain() -> None:
        written.append(client.session.take_output())
        waiting.set()
        await release.wait()

    client.session.drain = drain
    client.session.receive(b"RETR 1\r\nNOOP\r\n")
    work = asyncio.create_task(client.session.advance())
    await waiting.wait()
    assert client.session.busy
    client.session.shut_down(Ending.STOPPING)
    release.set()
    assert await work is Next.CLOSE
    octets = b"".join((*written, client.session.take_output()))
    assert b"\r\n.\r\n" not in octets and b"-ERR" not in octets
    client.session.closed()


async def test_a_message_that_can_not_be_read_costs_no_other(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await post.deliver(b"\r\none\r\n", b"\r\ntwo\r\n")
    client = await post.logged_in()
    real = post.storage.mailboxes.open
    broken, _ = await post.uids()

    async def damaged(mailbox: int, uid: int) -> StoredMessage:
        if uid == broken:
            raise StorageError("damaged on disk")
        return await real(mailbox, uid)

    monkeypatch.setattr(post.storage.mailboxes, "open", damaged)
    answer = await client.send(b"RETR 1\r\nRETR 2\r\n")
    assert answer.startswith(replies.INTERNAL.line + b"+OK ") and b"two" in answer
    assert caplog.records[-1].message == "message not read"
    assert caplog.records[-1].__dict__["fields"]["uid"] == broken


async def test_a_fault_of_ours_is_answered_and_ends_the_session(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    await post.deliver(b"\r\none\r\n")
    client = await post.logged_in()

    async def bug(mailbox: int, uids: list[int], login: AccountVersion) -> StoredMessage:
        raise ZeroDivisionError

    monkeypatch.setattr(post.storage.mailboxes, "expunge", bug)
    with pytest.raises(ZeroDivisionError):
        await client.send(b"DELE 1\r\nQUIT\r\n")
    assert client.session.take_output().endswith(replies.INTERNAL.line)
    client.session.closed()
    await post.logged_in()


async def test_bounded_input_stops_the_reading(post: Post) -> None:
    client = Client(post.session(max_junk=11_000))
    await client.session.start(PEER)
    assert client.session.wants_input
    client.session.receive(b"CAPA\r\n" * 11_000)
    assert not client.session.wants_input
    await client.session.advance()
    assert client.session.wants_input


async def test_an_answer_that_was_made_to_wait_leaves_when_its_wait_is_over(post: Post) -> None:
    """A client that is gone is noticed by what is written: not only when 32 answers have waited."""
    client = await post.logged_in()
    written: list[bytes] = []

    async def pause(seconds: float) -> None:
        written.append(b"wait")

    async def drain() -> None:
        written.append(client.session.take_output())
        if written.count(b"wait") == 3:
            raise ConnectionResetError("gone")

    client.session.pause, client.session.drain = pause, drain
    with pytest.raises(ConnectionResetError):
        await client.send(b"NOOP\r\n" * 140)
    assert written[written.index(b"wait") :][1::2][1:] == [b"+OK Nothing done\r\n"] * 2
    assert written[-2] == b"wait" and written.count(b"wait") == 3
