"""Whatever a server sends, and however it is cut: the same events, one fate for each recipient, bounded memory."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocol.smtp_talk import CONTENT, ENVELOPE, NOW, cut, to

from waypost.protocol.smtp.client import ClientOptions, SmtpClient
from waypost.protocol.smtp.client_events import (
    Authenticated,
    AuthenticationFailed,
    ClientEvent,
    ContentWanted,
    Disconnected,
    Greeted,
    TlsProceeds,
    TlsRefused,
    TransactionEnded,
    Welcomed,
)
from waypost.protocol.smtp.events import Closed, DataStarted, Hello, MailOffered, MessageChunk, MessageEnded
from waypost.protocol.smtp.events import RecipientOffered as Offered
from waypost.protocol.smtp.outgoing import scan
from waypost.protocol.smtp.replies import OK
from waypost.protocol.smtp.server import ServerOptions, SmtpServer

RECIPIENTS = to("a@server.test", "b@server.test", "c@server.test")


class Client:
    """An owner that does what a relay does: hello, TLS where offered, two messages, quit."""

    def __init__(self, *, lmtp: bool = False, streams: bool = False, pieces: list[bytes] | None = None) -> None:
        self.engine = SmtpClient(ClientOptions("client.test", lmtp=lmtp), now=lambda: NOW)
        self.events: list[ClientEvent] = []
        self.output = b""
        self.left = 2
        self._pieces = pieces or [CONTENT]
        self._content = scan(CONTENT) if streams else b"".join(self._pieces)
        self._secure = False

    def receive(self, data: bytes) -> None:
        self.engine.receive(data)
        self.work()

    def work(self) -> None:
        while (event := self.engine.next_event()) is not None:
            self.events.append(event)
            self._handle(event)
        self.output += self.engine.take_output()

    def _handle(self, event: ClientEvent) -> None:
        engine = self.engine
        match event:
            case Greeted(answer) if answer.positive:
                engine.hello()
            case Welcomed(capabilities) if capabilities.starttls and not self._secure:
                engine.start_tls()
            case TlsProceeds():
                self._secure = True
                engine.tls_started()
                engine.hello()
            case Welcomed() | TlsRefused() | Authenticated() | AuthenticationFailed():
                self._next()
            case TransactionEnded():
                assert len(event.outcomes) == len(RECIPIENTS)
                self._next()
            case ContentWanted():
                for piece in self._pieces:
                    engine.send_content(piece)
                engine.end_content()
            case Disconnected():
                assert engine.over
            case _:
                engine.quit()

    def _next(self) -> None:
        if self.engine.over:
            return
        if not self.left:
            self.engine.quit()
            return
        self.left -= 1
        self.engine.begin(ENVELOPE, RECIPIENTS, self._content)


_LINES = st.sampled_from(
    [b"220 hi\r\n", b"250 ok\r\n", b"250-server.test\r\n250-STARTTLS\r\n250 PIPELINING\r\n"]
    + [
        b"250-server.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
        b"354 go\r\n",
        b"550 5.1.1 no\r\n",
        b"452 4.5.3 many\r\n",
    ]
    + [
        b"421 4.3.2 bye\r\n",
        b"334 x\r\n",
        b"235 2.7.0 ok\r\n",
        b"221 bye\r\n",
        b"500 what\r\n",
        b"nonsense\r\n",
        b"250",
    ]
)
_STREAM = st.lists(st.one_of(_LINES, st.binary(max_size=6)), max_size=8).map(b"".join)
_POLITE = [b"220 hi\r\n", b"250-s\r\n250 PIPELINING\r\n"]
# What the server says each time that the client waits.
_ROUNDS = st.one_of(
    st.lists(_STREAM, max_size=8),
    st.lists(_STREAM, max_size=8).map(lambda rounds: [*_POLITE, *rounds]),
    st.lists(_LINES, max_size=24).map(lambda rounds: [*_POLITE, *rounds]),
)


def run(rounds: list[list[bytes]], *, lmtp: bool, streams: bool) -> Client:
    """Play rounds, each in its pieces, and close the connection."""
    client = Client(lmtp=lmtp, streams=streams)
    for pieces in rounds:
        for piece in pieces:
            client.engine.receive(piece)
        client.work()
    client.engine.receive_eof()
    client.work()
    return client


@settings(max_examples=300)
@given(_ROUNDS, st.lists(st.integers(0, 200), max_size=6), st.booleans(), st.booleans())
def test_any_split_of_the_same_replies_gives_the_same_events(
    rounds: list[bytes], cuts: list[int], lmtp: bool, streams: bool
) -> None:
    whole = run([[said] for said in rounds], lmtp=lmtp, streams=streams)
    split = run([cut(said, cuts) for said in rounds], lmtp=lmtp, streams=streams)
    assert split.events == whole.events
    assert split.output == whole.output


@settings(max_examples=300)
@given(_ROUNDS, st.booleans(), st.booleans())
def test_no_replies_crash_it_and_every_recipient_has_one_fate(rounds: list[bytes], lmtp: bool, streams: bool) -> None:
    client = run([[said] for said in rounds], lmtp=lmtp, streams=streams)
    assert client.engine.over
    assert sum(isinstance(event, Disconnected) for event in client.events) == 1
    begun = 2 - client.left
    assert sum(isinstance(event, TransactionEnded) for event in client.events) == begun
    for event in client.events:
        if isinstance(event, TransactionEnded):
            assert tuple(outcome.recipient for outcome in event.outcomes) == RECIPIENTS
            assert not any(300 <= outcome.reply.code < 400 for outcome in event.outcomes)


@given(_ROUNDS)
def test_nobody_is_relayed_to_by_our_own_word(rounds: list[bytes]) -> None:
    client = run([[said] for said in rounds], lmtp=False, streams=False)
    for event in client.events:
        if isinstance(event, TransactionEnded):
            for outcome in event.outcomes:
                assert not (outcome.local and outcome.reply.positive), "only a peer accepts"


@pytest.mark.parametrize(
    "endless",
    [b"x", b"250-" + b"x" * 60 + b"\r\n", b"250", b"250 ok\r\n", b"354 go\r\n", b"250-x\r\n250 x\r\n", b"\0\r\n"],
)
def test_no_server_makes_it_grow(endless: bytes) -> None:
    client = Client()
    client.receive(b"220 hi\r\n250-s\r\n250 PIPELINING\r\n")
    tracemalloc.start()
    try:
        for _ in range(200):
            client.receive(endless * (8192 // len(endless)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 400_000


class Server:
    """The owner of our own server engine: takes everything."""

    def __init__(self, *, lmtp: bool, chunking: bool) -> None:
        self._engine = SmtpServer(ServerOptions("server.test", lmtp=lmtp), now=lambda: NOW)
        self._lmtp = lmtp
        self._chunking = chunking
        self._arriving: list[bytes] = []
        self._engine.greet()
        self.messages: list[bytes] = []
        self.closed = False

    def receive(self, data: bytes) -> bytes:
        self._engine.receive(data)
        while (event := self._engine.next_event()) is not None:
            match event:
                case MessageChunk(data):
                    self._arriving.append(data)
                case MessageEnded():
                    self._take()
                case Hello() | MailOffered() | Offered() | DataStarted():
                    self._engine.answer(OK)
                case Closed():
                    self.closed = True
                case _:
                    pass
        written = self._engine.take_output()
        return written if self._chunking else written.replace(b"250-CHUNKING\r\n250-BINARYMIME\r\n", b"")

    def _take(self) -> None:
        self.messages.append(b"".join(self._arriving))
        self._arriving.clear()
        if self._lmtp:
            self._engine.answer_each([OK] * len(RECIPIENTS))
        else:
            self._engine.answer(OK)


_CLEAN = st.lists(st.sampled_from([b"\r\n", b".", b"a" * 50, b".\r\n", b"\r\n.\r\n"]), max_size=20).map(b"".join)


@settings(max_examples=60)
@given(content=_CLEAN, size=st.integers(1, 40), chunking=st.booleans(), lmtp=st.booleans())
def test_our_own_server_reads_what_our_client_sends(content: bytes, size: int, chunking: bool, lmtp: bool) -> None:
    server, client = Server(lmtp=lmtp, chunking=chunking), Client(lmtp=lmtp, pieces=[content])
    back = server.receive(b"")
    while back and not client.engine.over:
        for begin in range(0, len(back), size):
            client.receive(back[begin : begin + size])
        written, client.output = client.output, b""
        back = b"".join(server.receive(written[begin : begin + size]) for begin in range(0, len(written), size))
    assert server.closed and client.engine.over
    assert len(server.messages) == 2
    expected = content if chunking or content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert set(server.messages) == {expected}
    for event in client.events:
        if isinstance(event, TransactionEnded):
            assert all(outcome.reply == OK for outcome in event.outcomes)
