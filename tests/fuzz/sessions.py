"""The engines that speak with strangers, as targets: whatever a peer says, and in whatever pieces."""

import base64
import re
from collections.abc import Callable, Sequence

from tests.fuzz.target import Target
from tests.protocol.test_pop3_server import Owner as Pop3Owner
from tests.protocol.test_smtp_client_properties import Client
from tests.protocol.test_smtp_server import Owner as SmtpOwner

from waypost.protocol.lines import is_clean
from waypost.protocol.pop3.client import ContentChunk, Pop3Client, Pop3Disconnected
from waypost.protocol.pop3.events import Pop3Event
from waypost.protocol.pop3.events import StartTls as Pop3StartTls
from waypost.protocol.sasl.client import LoginClient
from waypost.protocol.smtp.events import (
    MessageChunk,
    MessageEnded,
    MessageRefused,
    MuchSaid,
    RecipientOffered,
    ServerEvent,
    StartTls,
)
from waypost.protocol.smtp.replies import NO_SUCH_USER, queued
from waypost.protocol.smtp.reply_reader import MAX_LINE, MAX_REPLY, ReplyError, ReplyReader
from waypost.service.sockets.proxy import ProxyError, ProxyHeader

BUFFER = 64 * 1024
"""Octets that an engine may hold back, beside the piece that it was given last."""


def feed(data: bytes, wants_input: Callable[[], bool], receive: Callable[[bytes], object]) -> None:
    """Give a piece as a connection does: never more than 16 KiB at once, and nothing that is not wanted."""
    for start in range(0, len(data), 16384):
        if not wants_input():
            return
        receive(data[start : start + 16384])


class SmtpServerOwner(SmtpOwner):
    """Refuses recipients whose names begin with "no". After STARTTLS it stops: what follows would be a handshake."""

    secure = False
    lmtp = False

    def _handle(self, event: ServerEvent) -> None:
        if isinstance(event, RecipientOffered) and event.recipient.address.local.lower().startswith("no"):
            self.engine.answer(NO_SUCH_USER)
        elif isinstance(event, MessageEnded) and self.engine.envelope is not None:
            self.messages.append(b"".join(self._arriving))
            self._arriving.clear()
            self._accept(event)
        else:
            super()._handle(event)
            self.secure = self.secure or isinstance(event, StartTls)

    def _accept(self, event: MessageEnded) -> None:
        assert self.engine.envelope is not None
        assert len(self.messages[-1]) == event.size <= 20_000
        answer = queued("0123456789abc")
        if self.lmtp:
            self.engine.answer_each([answer] * len(self.engine.envelope.recipients))
        else:
            self.engine.answer(answer)


CUT = (b"500 5.5.6 Line too long", b"554 5.5.2 Lines end")
"""Whether a line is too long, or holds a bare LF, is seen at once or only when it is whole: there the ways part."""
BARE_LF = re.compile(rb"(?<!\r)\n")
CHALLENGE = re.compile(rb"^(?:334 |\+ )", re.MULTILINE)
"""An answer to AUTH may end with LF alone where nothing follows at once: there the ways part, too (decision 0029)."""
REFUSED = re.compile(rb"55[02] 5\.(?:6\.11|3\.4) [^\r]*")
"""Content that is refused both for its size and for bare line ends: what is seen first is said."""


def smtp_server(*, lmtp: bool = False, submission: bool = False) -> Callable[[Sequence[bytes]], object]:
    """A server session with everything that it can offer."""

    def run(pieces: Sequence[bytes]) -> object:
        owner = SmtpServerOwner(
            tls=submission,
            lmtp=lmtp,
            submission=submission,
            starttls=not submission,
            mechanisms=("PLAIN", "SCRAM-SHA-256") if submission else (),
            max_message_size=10_000,
            max_recipients=5,
        )
        owner.lmtp = lmtp
        for piece in pieces:
            feed(piece, lambda: owner.engine.wants_input and not owner.secure, owner.send)
            assert len(owner.engine._session.buffer) <= BUFFER
        if owner.secure:
            assert not owner.engine.has_input, "what was pipelined behind STARTTLS is dropped"
        else:
            owner.engine.receive_eof()
            owner.send(b"")
        check_output(owner.output)
        assert b"BINARYMIME" in b"".join(pieces).upper() or all(map(is_clean, owner.messages))
        output = REFUSED.sub(b"refused", owner.output)
        places = [place for words in CUT if (place := output.find(words)) >= 0] + challenged(output, pieces)
        if places:
            return output[: min(places)]
        events = [event for event in owner.events if not isinstance(event, MessageChunk | MessageRefused | MuchSaid)]
        return output, owner.messages, events

    return run


def challenged(output: bytes, pieces: Sequence[bytes]) -> list[int]:
    """Return where the first answer to AUTH is awaited, in a list, where a line ends with LF alone."""
    found = CHALLENGE.search(output) if BARE_LF.search(b"".join(pieces)) else None
    return [found.start()] if found else []


def check_output(output: bytes) -> None:
    """Every line is a reply, printable, and of a length that each client takes (RFC 5321 4.5.3.1.5)."""
    assert output.endswith(b"\r\n")
    for line in output[:-2].split(b"\r\n"):
        assert line[:3].isdigit() and line[3:4] in (b" ", b"-") and len(line) <= 510
        assert line.decode().isprintable()


def smtp_client(*, lmtp: bool = False, streams: bool = False) -> Callable[[Sequence[bytes]], object]:
    """A client session, to which a server says what it wants, a line at a time."""

    def run(pieces: Sequence[bytes]) -> object:
        client = Client(lmtp=lmtp, streams=streams)
        for piece in _line_by_line(pieces):
            client.receive(piece)
            assert len(client.engine._reader._buffer) <= MAX_LINE + max(map(len, pieces))
        client.engine.receive_eof()
        client.work()
        assert client.engine.over
        assert b"\n" not in client.output.replace(b"\r\n", b"")
        return client.events, client.output

    return run


def _line_by_line(pieces: Sequence[bytes]) -> list[bytes]:
    """A client speaks between the lines of the server: the pieces end there, too."""
    return [part for piece in pieces for part in piece.splitlines(keepends=True) if part]


def reply_reader(pieces: Sequence[bytes]) -> object:
    """Replies, or what is wrong with the first that is none."""
    reader, found = ReplyReader(), []
    try:
        for piece in pieces:
            for start in range(0, len(piece), 16384):
                reader.receive(piece[start : start + 16384])
                while (answer := reader.next()) is not None:
                    assert all(line.isprintable() for line in answer.lines)
                    assert sum(map(len, answer.lines)) <= 4 * (MAX_REPLY + MAX_LINE)
                    found.append(answer)
                assert len(reader._buffer) <= MAX_LINE + len(piece)
    except ReplyError as error:
        return found, str(error)
    return found


class Pop3ServerOwner(Pop3Owner):
    """Stops after STLS."""

    secure = False

    def handle(self, event: Pop3Event) -> None:
        super().handle(event)
        self.secure = self.secure or isinstance(event, Pop3StartTls)


def pop3_server(pieces: Sequence[bytes]) -> object:
    """A session over TLS, or, where the octets begin with STLS or CAPA, one that may change over to it."""
    plain = b"".join(pieces)[:4] in (b"STLS", b"CAPA")
    owner = Pop3ServerOwner(tls=not plain, starttls=True)
    for piece in pieces:
        feed(piece, lambda: owner.engine.wants_input and not owner.secure, owner.send)
        assert len(owner.engine._session.buffer) <= BUFFER
    if owner.secure:
        assert not owner.engine._session.buffer
    else:
        owner.engine.receive_eof()
        owner.send(b"")
    assert owner.output.endswith(b"\r\n") or b"\r\n" in owner.output
    refused = owner.output.find(b"-ERR Line")
    cut = min([place for place in (refused, *challenged(owner.output, pieces)) if place >= 0], default=-1)
    return owner.output[:cut] if cut >= 0 else (owner.output, owner.events)


def pop3_client(pieces: Sequence[bytes]) -> object:
    """A client that asks for everything at once."""
    client, events, content = Pop3Client(), [], b""
    client.capabilities()
    client.authenticate(LoginClient("bob", "secret"))
    for command in (client.utf8, client.list, client.unique_ids, lambda: client.retrieve(1), lambda: client.top(1, 2)):
        command()
    client.delete(1)
    client.quit()
    for piece in pieces:
        client.receive(piece)
        assert len(client._buffer) <= 16384 + len(piece)
    client.receive_eof()
    while (event := client.next_event()) is not None:
        if isinstance(event, ContentChunk):
            content += event.octets
        else:
            events.append(event)
    assert isinstance(events[-1], Pop3Disconnected)
    return events, content, client.take_output()


def proxy_header(pieces: Sequence[bytes]) -> object:
    """What the header says, and how far it goes."""
    header, taken = ProxyHeader(), 0
    try:
        for piece in pieces:
            taken += header.feed(piece)
            assert len(header._buffer) <= 16 + 4096
            if header.done:
                break
    except ProxyError:
        return "refused"
    return header.done, header.ends, taken if header.done else None


def _plain(user: bytes) -> bytes:
    return base64.b64encode(b"\0" + user + b"\0secret")


_MESSAGE = b"Subject: tea\r\nFrom: a@client.test\r\n\r\nAt five.\r\n..dot\r\n.\r\n"
_ENVELOPE = b"MAIL FROM:<a@client.test> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<b@server.test>\r\n"
SMTP_SESSIONS = (
    b"EHLO client.test\r\n" + _ENVELOPE + b"DATA\r\n" + _MESSAGE + b"QUIT\r\n",
    b"EHLO [IPv6:2001:db8::1]\r\n" + _ENVELOPE + b"RCPT TO:<no@server.test>\r\nDATA\r\n" + _MESSAGE + _ENVELOPE,
    b"EHLO c\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@s.test>\r\n"
    b"BDAT 5\r\nab\ncdBDAT 0\r\nBDAT 3 LAST\r\n\0\r\nRSET\r\n",
    b"EHLO c\r\nBDAT 4\r\nQUITRCPT TO:<b@s.test>\r\n" + _ENVELOPE + b"BDAT 9 LAST\r\nA: b\r\n\r\nx",
    b"EHLO c\r\nSTARTTLS\r\nNOOP\r\nMAIL FROM:<a@b.test>\r\n",
    b"HELO c\r\nVRFY bob\r\nEXPN x\r\nHELP\r\nNOOP\r\nRSET\r\nRCPT TO:<b@s.test>\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"EHLO c\r\nMAIL FROM:<\xc3\xa9lise@b\xc3\xbccher.test> SMTPUTF8 RET=HDRS ENVID=x+2By\r\n"
    b"RCPT TO:<b@s.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+40s.test\r\nDATA\r\n" + _MESSAGE,
    b"EHLO c\r\nAUTH PLAIN " + _plain(b"a@client.test") + b"\r\n" + _ENVELOPE + b"DATA\r\n" + _MESSAGE,
    b"EHLO c\r\nAUTH SCRAM-SHA-256\r\n" + base64.b64encode(b"n,,n=a,r=b") + b"\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN =\r\n",
    b"EHLO c\r\nMAIL FROM:<a@c.test> HOLDFOR=60 BY=3600;R MT-PRIORITY=4 AUTH=<>\r\n"
    b"RCPT TO:<@x.test,@y.test:b@s.test>\r\n",
    b'LHLO c\r\nMAIL FROM:<"a b"@c.test>\r\nRCPT TO:<"x\\"y"@[192.0.2.1]>\r\nRCPT TO:<postmaster>\r\nDATA\r\n'
    + _MESSAGE,
)
SMTP_WORDS = (
    *(b"EHLO c\r\n", b"LHLO c\r\n", b"HELO c\r\n", b"RSET\r\n", b"DATA\r\n", b"BDAT ", b" LAST\r\n", b"STARTTLS\r\n"),
    *(b"MAIL FROM:", b"RCPT TO:", b"<>", b"<postmaster>", b" SMTPUTF8", b" BODY=BINARYMIME", b" SIZE=", b" NOTIFY="),
    *(
        b" ORCPT=rfc822;",
        b" ORCPT=utf-8;\\x{41}",
        b" ENVID=",
        b" HOLDUNTIL=2026-11-24T18:00:00Z",
        b" BY=1;R",
        b" AUTH=",
    ),
    *(b"AUTH PLAIN ", b"=\r\n", b"QUIT\r\n", b"+", b"+0A", b"\\x{d800}", _ENVELOPE, _MESSAGE),
)
_OFFERS = (
    b"250-server.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"
)
_YES = b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.1.5 ok\r\n250 2.1.5 ok\r\n"
SERVER_WORDS = (
    *(
        b"220 server.test ESMTP\r\n",
        b"250 ok\r\n",
        b"250-",
        b"354 go\r\n",
        b"421 4.3.2 bye\r\n",
        b"450 4.2.1 later\r\n",
    ),
    *(
        b"550 5.1.1 no\r\n",
        b"550-5.1.1 one\r\n550 5.1.1 two\r\n",
        b"334 dXNlcg==\r\n",
        b"235 2.7.0 ok\r\n",
        _OFFERS,
        _YES,
    ),
    *(b"250-LIMITS RCPTMAX=1 MAILMAX=2\r\n", b"250 STARTTLS\r\n", b"500 what\r\n", b"221 bye\r\n", b"999 x\r\n", b"25"),
)
SERVER_SESSIONS = (
    b"220 server.test ESMTP\r\n" + _OFFERS + (_YES + b"250 2.0.0 taken\r\n") * 2 + b"221 bye\r\n",
    b"220 x\r\n250-x\r\n250 PIPELINING\r\n" + (_YES + b"354 go\r\n250 taken\r\n") * 2 + b"221 bye\r\n",
    b"220 x\r\n250 x\r\n" + (_YES + b"354 go\r\n250 2.6.0 taken\r\n250 2.6.0 taken\r\n550 5.2.2 full\r\n") * 2,
    b"220 x\r\n500 what\r\n250 x\r\n250 ok\r\n550 5.1.1 no\r\n450 4.2.1 later\r\n250 ok\r\n354 go\r\n451 no\r\n",
    b"220-x\r\n220 y\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n" + _OFFERS + _YES,
    b"554 5.7.1 go away\r\n221 bye\r\n",
    b"220 x\r\n" + _OFFERS + b"421 4.3.2 closing\r\n",
)
POP3_SESSIONS = (
    b"USER bob\r\nPASS secret word\r\nSTAT\r\nLIST\r\nUIDL 2\r\nRETR 1\r\nTOP 2 1\r\n"
    b"DELE 1\r\nRSET\r\nDELE 2\r\nQUIT\r\n",
    b"AUTH PLAIN " + _plain(b"bob") + b"\r\nCAPA\r\nRETR 3\r\nRETR 9\r\nNOOP\r\nLIST 1\r\n",
    b"CAPA\r\nSTLS\r\nUSER bob\r\nPASS x\r\n",
    b"STLS\r\nNOOP\r\n",
    b"UTF8\r\nAUTH PLAIN\r\n" + _plain(b"bob") + b"\r\nTOP 1 0\r\nTOP 2 99999999\r\n",
    b"AUTH SCRAM-SHA-256 =\r\n*\r\nAUTH\r\nUSER b\xc3\xa9\r\nPASS \xff\r\nGET / HTTP/1.0\r\n",
)
POP3_WORDS = (
    *(
        b"USER bob\r\n",
        b"PASS x\r\n",
        b"STLS\r\n",
        b"CAPA\r\n",
        b"RETR 1\r\n",
        b"TOP 1 1\r\n",
        b"DELE 1\r\n",
        b"LIST\r\n",
    ),
    *(b"UIDL\r\n", b"QUIT\r\n", b"RSET\r\n", b"AUTH PLAIN ", b"UTF8\r\n"),
)
_LETTER = b"Subject: x\r\n\r\n..dot\r\nhi\r\n.\r\n"
POP3_SERVERS = (
    b"+OK hi\r\n+OK\r\nTOP\r\nSTLS\r\nSASL PLAIN\r\n.\r\n+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n+OK in\r\n+OK\r\n"
    b"+OK 1\r\n1 26\r\n.\r\n+OK\r\n1 1.2\r\n.\r\n+OK\r\n" + _LETTER + b"+OK\r\n" + _LETTER + b"+OK gone\r\n+OK bye\r\n",
    b"+OK hi\r\n-ERR no CAPA\r\n-ERR [AUTH] wrong\r\n-ERR\r\n"
    b"-ERR [SYS/TEMP] later\r\n-ERR x\r\n-ERR x\r\n-ERR\r\n-ERR\r\n",
    b"-ERR [IN-USE] busy\r\n",
)
POP3_SERVER_WORDS = (
    b"+OK\r\n",
    b"-ERR\r\n",
    b"+ ",
    b"+\r\n",
    b".\r\n",
    b"+OK [X] y\r\n",
    b"-ERR [AUTH] no\r\n",
    _LETTER,
)
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_HEADERS = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\nEHLO x\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
    b"PROXY UNKNOWN anything at all\r\nEHLO x\r\n",
    _V2 + b"\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 25]) + b"EHLO x\r\n",
    _V2 + b"\x21\x21\0\x28" + bytes(range(36)) + b"\x04\0\x01x" + b"EHLO x\r\n",
    _V2 + b"\x20\0\0\0EHLO x\r\n",
)
TARGETS = (
    Target("smtp-server", SMTP_SESSIONS, smtp_server(), SMTP_WORDS),
    Target("submission-server", SMTP_SESSIONS, smtp_server(submission=True), SMTP_WORDS),
    Target("lmtp-server", SMTP_SESSIONS, smtp_server(lmtp=True), SMTP_WORDS),
    Target("smtp-client", SERVER_SESSIONS, smtp_client(), SERVER_WORDS),
    Target("smtp-client-streaming", SERVER_SESSIONS, smtp_client(streams=True), SERVER_WORDS),
    Target("lmtp-client", SERVER_SESSIONS, smtp_client(lmtp=True), SERVER_WORDS),
    Target("reply-reader", SERVER_SESSIONS, reply_reader, SERVER_WORDS),
    Target("pop3-server", POP3_SESSIONS, pop3_server, POP3_WORDS),
    Target("pop3-client", POP3_SERVERS, pop3_client, POP3_SERVER_WORDS),
    Target(
        "proxy-header", PROXY_HEADERS, proxy_header, (_V2, b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b"\x21", b"\x11")
    ),
)
