"""The POP3 server engine, by the sections of its RFCs, and against what hostile clients send."""

import base64
import email
import email.policy
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.pop3 import replies
from waypost.protocol.pop3.commands import COMMANDS
from waypost.protocol.pop3.content import LineDotStuffer, TopCutter
from waypost.protocol.pop3.events import (
    AuthCancelled,
    AuthResponse,
    AuthStarted,
    Closed,
    Leaving,
    MessageWanted,
    PasswordGiven,
    Pop3Event,
    StartTls,
)
from waypost.protocol.pop3.maildrop import Maildrop
from waypost.protocol.pop3.server import Pop3Options, Pop3Server
from waypost.protocol.pop3.surrogate import surrogate

MECHANISMS = ("SCRAM-SHA-256", "PLAIN")
MESSAGES = [
    b"Subject: one\r\n\r\nfirst\r\nsecond\r\nthird\r\n",
    b"Subject: dots\r\n\r\n.\r\n..\r\n.dot\r\n",
    b"Subject: no end\r\n\r\nlast line",
]
LOGIN = b"USER bob\r\nPASS pw\r\n"


class Owner:
    """Answers every question with yes, and remembers what was asked."""

    def __init__(self, *, tls: bool = True, messages: list[bytes] | None = None, **options: object) -> None:
        self.messages = MESSAGES if messages is None else messages
        self.engine = Pop3Server(
            Pop3Options("mx.server.test", **options),  # type: ignore[arg-type]
            tls=tls,
            mechanisms=MECHANISMS if tls else (),
        )
        self.events: list[Pop3Event] = []
        self.output = b""
        self.piece = 1 << 20
        self.refuse: dict[type, replies.Pop3Reply] = {}
        self.engine.greet()
        self.drive()

    def send(self, data: bytes) -> bytes:
        """Give bytes; return what the engine wrote for them."""
        before = len(self.output)
        self.engine.receive(data)
        self.drive()
        return self.output[before:]

    def drive(self) -> None:
        while True:
            while (event := self.engine.next_event()) is not None:
                self.events.append(event)
                self.handle(event)
            more = self.engine.full
            self.output += self.engine.take_output()
            if not more:
                return

    def handle(self, event: Pop3Event) -> None:
        refusal = self.refuse.get(type(event))
        match event:
            case Closed() | AuthCancelled():
                return
            case _ if refusal is not None:
                self.engine.answer(refusal)
            case PasswordGiven() | AuthResponse():
                self.enter()
            case AuthStarted():
                if event.initial is None:
                    self.engine.challenge(b"")
                else:
                    self.enter()
            case StartTls():
                self.engine.answer(replies.START_TLS)
            case MessageWanted():
                self.transmit(self.messages[event.index])
            case Leaving():
                self.engine.answer(replies.BYE)

    def enter(self) -> None:
        sizes = enumerate((len(message) for message in self.messages), 101)
        self.engine.enter(Maildrop(1700000000, sizes))

    def transmit(self, message: bytes) -> None:
        self.engine.begin(len(message))
        for start in range(0, len(message), self.piece):
            if not self.engine.write(message[start : start + self.piece]):
                break
        self.engine.end()

    def last(self, kind: type) -> Pop3Event:
        return [event for event in self.events if isinstance(event, kind)][-1]


def test_every_command_cites_its_section() -> None:
    assert all(re.match(r"RFC \d+ \d", command.section) for command in COMMANDS.values())


def test_a_whole_session_in_one_packet() -> None:
    owner = Owner()
    answer = owner.send(LOGIN + b"STAT\r\nLIST\r\nUIDL 2\r\nRETR 1\r\nDELE 1\r\nNOOP\r\nLIST 1\r\nQUIT\r\n")
    octets = sum(map(len, MESSAGES))
    assert answer.split(b"\r\n") == [
        b"+OK Now the password",
        b"+OK 3 messages (%d octets)" % octets,
        b"+OK 3 %d" % octets,
        b"+OK 3 messages (%d octets)" % octets,
        b"1 %d" % len(MESSAGES[0]),
        b"2 %d" % len(MESSAGES[1]),
        b"3 %d" % len(MESSAGES[2]),
        b".",
        b"+OK 2 1700000000.102",
        b"+OK %d octets" % len(MESSAGES[0]),
        *MESSAGES[0].split(b"\r\n")[:-1],
        b".",
        b"+OK Message 1 will be removed",
        b"+OK Nothing done",
        b"-ERR No such message",
        b"+OK Goodbye",
        b"",
    ]
    assert owner.events[-2:] == [Leaving((0,)), Closed("quit")]


def test_the_greeting_offers_no_apop() -> None:
    assert Owner().output == b"+OK mx.server.test POP3 ready\r\n"
    assert Owner().send(b"APOP bob c4c9334bac560ecc979e58001b3e22fb\r\n").startswith(b"-ERR")


# Capabilities.


def capabilities(owner: Owner) -> list[bytes]:
    lines = owner.send(b"CAPA\r\n").split(b"\r\n")
    assert lines[0].startswith(b"+OK") and lines[-2:] == [b".", b""]
    return lines[1:-2]


def test_capa_lists_what_is_offered_in_this_state() -> None:
    always = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER", b"UTF8 USER"]
    assert capabilities(Owner(tls=False)) == [*always, b"IMPLEMENTATION Waypost"]
    assert capabilities(Owner(tls=False, starttls=True)) == [*always, b"STLS", b"IMPLEMENTATION Waypost"]
    owner = Owner(starttls=True)
    encrypted = [*always, b"USER", b"SASL SCRAM-SHA-256 PLAIN", b"IMPLEMENTATION Waypost"]
    assert capabilities(owner) == encrypted
    owner.send(LOGIN)
    assert capabilities(owner) == encrypted, "RFC 2449 6: no difference between the states"


# Passwords need TLS.


@pytest.mark.parametrize("command", [b"USER bob", b"PASS pw", b"AUTH PLAIN", b"AUTH PLAIN AGIAYQ=="])
def test_no_password_is_taken_without_tls(command: bytes) -> None:
    owner = Owner(tls=False, starttls=True)
    assert owner.send(command + b"\r\n") == b"-ERR Encryption required: say STLS first\r\n"
    assert owner.events == []


def test_what_is_pipelined_behind_stls_is_never_run() -> None:
    owner = Owner(tls=False, starttls=True)
    assert owner.send(b"STLS\r\nCAPA\r\nQUIT\r\n") == b"+OK Begin TLS\r\n"
    assert owner.send(b"CAPA\r\n") == b"", "nor what comes before the handshake"
    owner.engine.tls_started(MECHANISMS)
    assert owner.send(b"NOOP\r\n") == b"-ERR Log in first\r\n"
    assert owner.send(b"STLS\r\n") == b"-ERR TLS is on already\r\n"
    assert b"SASL" in owner.send(b"CAPA\r\n")
    assert owner.send(LOGIN + b"STLS\r\n").endswith(b"-ERR You are logged in already\r\n")


def test_tls_forgets_what_was_said_before() -> None:
    owner = Owner(tls=False, starttls=True)
    owner.send(b"UTF8\r\n")
    assert owner.engine.utf8
    owner.send(b"STLS\r\n")
    owner.engine.tls_started(MECHANISMS)
    assert not owner.engine.utf8


def test_stls_can_be_refused_and_is_unknown_where_it_is_not_offered() -> None:
    assert Owner(tls=False).send(b"STLS\r\n") == b"-ERR Not offered here\r\n"
    owner = Owner(tls=False, starttls=True)
    owner.refuse[StartTls] = replies.TLS_FAILED
    assert owner.send(b"STLS\r\n").startswith(b"-ERR [SYS/TEMP]")
    assert owner.send(b"NOOP\r\n") == b"-ERR Log in first\r\n"


# Logins.


def test_spaces_belong_to_the_password_and_utf8_may_stand_in_both() -> None:
    owner = Owner()
    owner.send("USER b\u00f6b@x.test\r\nPASS  p\u00e4ss word \r\n".encode())
    assert owner.events == [PasswordGiven("b\u00f6b@x.test", " p\u00e4ss word ")]
    assert Owner().send(b"USER \xff\r\n") == b"-ERR That was no UTF-8\r\n"
    assert Owner().send(b"USER\r\n") == b"-ERR Syntax error in the argument\r\n"


def test_pass_comes_immediately_after_user() -> None:
    owner = Owner()
    assert owner.send(b"PASS pw\r\n") == b"-ERR Say USER first\r\n"
    assert owner.send(b"USER bob\r\nNOOP\r\nPASS pw\r\n").endswith(b"-ERR Say USER first\r\n")
    owner.refuse[PasswordGiven] = replies.AUTH_FAILED
    assert owner.send(LOGIN).endswith(b"-ERR [AUTH] Wrong user name or password\r\n")
    assert owner.send(b"PASS pw\r\n") == b"-ERR Say USER first\r\n"
    del owner.refuse[PasswordGiven]
    assert owner.send(LOGIN).startswith(b"+OK")


def test_auth_takes_an_initial_response_or_asks_for_it() -> None:
    owner = Owner()
    assert owner.send(b"AUTH PLAIN AGIAYQ==\r\n").startswith(b"+OK 3 messages")
    assert owner.events == [AuthStarted("PLAIN", b"\0b\0a")]
    owner = Owner()
    assert owner.send(b"auth plain\r\n") == b"+ \r\n"
    assert owner.send(b"AGIAYQ==\r\n").startswith(b"+OK")
    assert owner.last(AuthResponse) == AuthResponse(b"\0b\0a")
    owner = Owner()
    owner.send(b"AUTH PLAIN =\r\n")
    assert owner.events == [AuthStarted("PLAIN", b"")]


def test_an_answer_to_auth_may_end_with_lf_alone() -> None:
    owner = Owner()
    owner.send(b"AUTH PLAIN\r\n")
    assert owner.send(b"AGIAYQ==\n").startswith(b"+OK")
    assert owner.last(AuthResponse) == AuthResponse(b"\0b\0a")
    owner = Owner()
    owner.send(b"AUTH PLAIN\r\n")
    assert owner.send(b"*\n").startswith(b"-ERR")
    assert owner.send(LOGIN).startswith(b"+OK")


@pytest.mark.parametrize("lines", [b"AGIAYQ==\nNOOP\n", b"AGIAYQ==\nNOOP\r\n", b"AGIA\rYQ==\n", b"AGIA\0YQ==\n"])
def test_nothing_hides_behind_such_an_answer(lines: bytes) -> None:
    owner = Owner()
    owner.send(b"AUTH PLAIN\r\n")
    assert owner.send(lines).startswith(b"-ERR")
    assert owner.engine.closed
    assert not [event for event in owner.events if isinstance(event, AuthResponse)]


@pytest.mark.parametrize("line", [b"*", b"no base64!", b"AAA"])
def test_auth_can_be_cancelled(line: bytes) -> None:
    owner = Owner()
    assert owner.send(b"AUTH PLAIN\r\n" + line + b"\r\n").startswith(b"+ \r\n-ERR ")
    assert isinstance(owner.events[-1], AuthCancelled)
    assert owner.send(LOGIN).startswith(b"+OK")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"AUTH", b"-ERR Syntax error in the argument"),
        (b"AUTH CRAM-MD5", b"-ERR Mechanism not offered"),
        (b"AUTH \xff", b"-ERR Mechanism not offered"),
        (b"AUTH PLAIN !", b"-ERR That was no base64"),
        (b"AUTH PLAIN a b", b"-ERR Syntax error in the argument"),
    ],
)
def test_auth_is_refused_when_it_is_no_auth(line: bytes, answer: bytes) -> None:
    assert Owner().send(line + b"\r\n") == answer + b"\r\n"


def test_auth_lines_may_be_long_and_others_may_not() -> None:
    owner = Owner()
    response = base64.b64encode(b"x" * 9000)
    assert owner.send(b"AUTH PLAIN " + response + b"\r\n").startswith(b"+OK")
    assert Owner().send(b"USER " + b"x" * 1100 + b"\r\nCAPA\r\n").startswith(b"-ERR Line too long\r\n+OK")
    owner = Owner()
    assert owner.send(b"AUTH PLAIN " + b"A" * 13000) == b"-ERR Line too long\r\n"
    assert owner.engine.closed


def test_failed_login_through_sasl_goes_back_to_the_beginning() -> None:
    owner = Owner()
    owner.refuse[AuthResponse] = replies.throttled(4)
    answer = owner.send(b"AUTH PLAIN\r\nAGIAYQ==\r\nSTAT\r\n")
    assert answer.split(b"\r\n")[1] == b"-ERR [SYS/TEMP] Too many failed logins; please try again in 4 seconds"
    assert answer.endswith(b"-ERR Log in first\r\n")


# Transactions.


@pytest.mark.parametrize("verb", [v for v, c in COMMANDS.items() if v not in (b"CAPA", b"QUIT")])
def test_each_command_has_its_state(verb: bytes) -> None:
    before = COMMANDS[verb].states == COMMANDS[b"USER"].states
    owner = Owner()
    if before:
        owner.send(LOGIN)
    answer = owner.send(verb + b" 1\r\n")
    assert answer == (b"-ERR You are logged in already\r\n" if before else b"-ERR Log in first\r\n")


@pytest.mark.parametrize("argument", [b"0", b"4", b"-1", b"1x", b"", b"99999999999999999999", b"\xb2", b"1 2"])
@pytest.mark.parametrize("verb", [b"RETR", b"DELE"])
def test_a_message_that_is_not_there_is_refused(verb: bytes, argument: bytes) -> None:
    owner = Owner()
    owner.send(LOGIN)
    assert owner.send(verb + b" " + argument + b"\r\n").startswith(b"-ERR ")
    assert isinstance(owner.events[-1], PasswordGiven)


def test_marks_hide_messages_and_rset_takes_them_away() -> None:
    owner = Owner()
    owner.send(LOGIN)
    octets = sum(map(len, MESSAGES))
    assert not owner.engine.marked
    answer = owner.send(b"DELE 2\r\nDELE 2\r\nRETR 2\r\nUIDL 2\r\nTOP 2 0\r\nSTAT\r\nUIDL\r\n").split(b"\r\n")
    assert answer[1:5] == [b"-ERR No such message"] * 4
    assert answer[5] == b"+OK 2 %d" % (octets - len(MESSAGES[1]))
    assert answer[7:] == [b"1 1700000000.101", b"3 1700000000.103", b".", b""]
    assert owner.engine.marked
    assert owner.send(b"RSET\r\nSTAT\r\n").endswith(b"+OK 3 %d\r\n" % octets)
    assert not owner.engine.marked
    owner.send(b"QUIT\r\n")
    assert owner.last(Leaving) == Leaving(())


def test_an_empty_maildrop() -> None:
    owner = Owner(messages=[])
    answer = owner.send(LOGIN + b"STAT\r\nLIST\r\nUIDL\r\nLIST 1\r\n").split(b"\r\n")
    assert answer[2:] == [
        b"+OK 0 0",
        b"+OK 0 messages (0 octets)",
        b".",
        b"+OK 0 messages (0 octets)",
        b".",
        b"-ERR No such message",
        b"",
    ]


def test_unique_ids_fit_into_rfc_1939_and_sizes_may_be_large() -> None:
    maildrop = Maildrop(2**64 - 1, [(2**64 - 1, 2**40)])
    assert maildrop.unique_line(0) == b"1 18446744073709551615.18446744073709551615\r\n"
    assert maildrop.scan_line(0) == b"1 1099511627776\r\n"


def test_quit_is_refused_when_the_messages_could_not_be_removed() -> None:
    owner = Owner()
    owner.refuse[Leaving] = replies.NOT_REMOVED
    assert owner.send(LOGIN + b"DELE 1\r\nQUIT\r\n").endswith(replies.NOT_REMOVED.line)
    assert owner.engine.closed


def test_a_client_that_goes_away_removes_nothing() -> None:
    owner = Owner()
    owner.send(LOGIN + b"DELE 1\r\nNOO")
    owner.engine.receive_eof()
    owner.drive()
    assert owner.events[-1] == Closed("the client went away")
    assert not any(isinstance(event, Leaving) for event in owner.events)


# Messages on the wire.


def received(wire: bytes) -> bytes:
    """Return the message that a client reads which keeps to RFC 1939."""
    status, _, rest = wire.partition(b"\r\n")
    assert status.startswith(b"+OK")
    message = b""
    while not rest.startswith(b".\r\n"):
        line, _, rest = rest.partition(b"\r\n")
        message += (line[1:] if line.startswith(b".") else line) + b"\r\n"
    assert rest == b".\r\n", "nothing follows the end"
    return message


@given(
    st.lists(st.sampled_from([b"\r\n", b".", b"x", b"\r", b"\n", b"\0", b".\r\n", b"..\r\n", b"line\r\n"])).map(
        b"".join
    ),
    st.integers(1, 7),
)
def test_every_octet_arrives_whatever_the_message_and_its_pieces(message: bytes, piece: int) -> None:
    owner = Owner(messages=[message])
    owner.piece = piece
    owner.send(LOGIN)
    wire = owner.send(b"RETR 1\r\n")
    whole = message if message.endswith(b"\r\n") or not message else message + b"\r\n"
    assert received(wire) == whole
    owner.piece = 1 << 20
    assert owner.send(b"RETR 1\r\n") == wire


def test_a_dot_between_bare_line_feeds_ends_no_message() -> None:
    stuffer = LineDotStuffer()
    assert stuffer.stuff(b"a\n.\nb\r.\rc\n.\r\n") + stuffer.finish() == b"a\n.\nb\r.\rc\n.\r\n.\r\n"


def top(message: bytes, lines: int) -> bytes:
    """Return what TOP gives, line by line."""
    header, empty, body = (b"\r\n" + message).partition(b"\r\n\r\n")
    if not empty:
        return header[2:]
    return (header + empty)[2:] + b"".join(line + b"\r\n" for line in body.split(b"\r\n")[:-1][:lines])


@given(
    st.lists(st.sampled_from([b"\r\n", b"H: x\r\n", b"\r", b"\n", b"line\r\n", b".\r\n"])).map(b"".join),
    st.integers(0, 5),
    st.integers(1, 7),
)
def test_top_gives_the_header_and_so_many_lines(message: bytes, lines: int, piece: int) -> None:
    cutter = TopCutter(lines)
    given_ = b"".join(cutter.cut(message[start : start + piece]) for start in range(0, len(message), piece))
    given_ += cutter.finish()
    expected = top(message, lines)
    if not cutter.done and given_ != expected:  # a last line without its end is a line, too
        assert message == given_ and given_.startswith(expected)
    else:
        assert given_ == expected


def test_top_stops_as_soon_as_it_has_its_lines() -> None:
    owner = Owner()
    owner.send(LOGIN)
    assert received(owner.send(b"TOP 1 0\r\n")) == b"Subject: one\r\n\r\n"
    assert received(owner.send(b"TOP 1 2\r\n")) == b"Subject: one\r\n\r\nfirst\r\nsecond\r\n"
    assert received(owner.send(b"TOP 1 999999999\r\n")) == MESSAGES[0]
    assert received(owner.send(b"TOP 3 5\r\n")) == MESSAGES[2] + b"\r\n"
    assert owner.last(MessageWanted) == MessageWanted(2, 5)
    for argument in (b"", b"1", b"1 -1", b"1 x", b"x 1", b"1 2 3", b"9 1"):
        assert owner.send(b"TOP " + argument + b"\r\n").startswith(b"-ERR ")


def test_a_message_that_can_not_be_read_is_refused_or_has_no_end() -> None:
    owner = Owner()
    owner.refuse[MessageWanted] = replies.INTERNAL
    owner.send(LOGIN)
    assert owner.send(b"RETR 1\r\nNOOP\r\n") == replies.INTERNAL.line + replies.NOOP.line
    owner.engine.receive(b"RETR 1\r\n")
    assert isinstance(owner.engine.next_event(), MessageWanted)
    owner.engine.begin(100)
    owner.engine.write(b"half a\r\n")
    assert owner.engine.sending
    owner.engine.shut_down(None, "the disk is gone")
    assert owner.engine.take_output() == b"+OK 100 octets\r\nhalf a\r\n"
    assert not owner.engine.write(b"more")
    owner.engine.end()
    assert owner.engine.take_output() == b""


def test_taking_marks_away_looks_at_what_was_marked_alone() -> None:
    class Sizes(list[int]):
        def __iter__(self) -> Iterator[int]:
            raise AssertionError("a large maildrop is walked through for each RSET")

    maildrop = Maildrop(1, [(1, 10), (2, 20), (3, 30)])
    maildrop._sizes = Sizes([10, 20, 30])  # type: ignore[assignment]
    maildrop.delete(1)
    assert (maildrop.octets, maildrop.count) == (40, 2)
    for _ in range(2):
        maildrop.reset()
        assert (maildrop.octets, maildrop.count) == (60, 3)


# Internationalised mail.


def test_an_ascii_header_and_one_that_is_no_utf8_stay_as_they_are() -> None:
    for header in (b"Subject: x", b"Subject: caf\xe9", b"From: caf\xe9 <a@b>\r\nSubject: x\r\n"):
        assert surrogate(header) == header
    mixed = b"Subject: caf\xe9\r\nComments: caf\xc3\xa9\r\n\r\n"  # each field is written by somebody else
    assert surrogate(mixed) == b"Subject: caf\xe9\r\nComments: =?utf-8?b?Y2Fmw6k=?=\r\n\r\n"


def test_a_surrogate_header_says_the_same_in_ascii() -> None:
    header = (
        "Return-Path: <j\u00f6rg@b\u00fccher.test>\r\nFrom: J\u00f6rg <j\u00f6rg@b\u00fccher.test>\r\n"
        'To: "Bob, the b\u00fcilder" <bob@builder.test>,\r\n a@x.test, \u00e4@x.test\r\n'
        "Subject: " + "Gr\u00fc\u00dfe " * 20 + "\r\n und mehr\r\n"
        'Content-Type: text/plain; charset=utf-8; name="\u00e4.txt"\r\nX-N\u00e4me: x\r\nDate: today\r\n\r\n'
    ).encode()
    plain = surrogate(header)
    assert plain.isascii() and plain.endswith(b"Date: today\r\n\r\n")
    assert all(len(line) <= 78 for line in plain.split(b"\r\n"))
    message = email.message_from_bytes(plain, policy=email.policy.default)
    assert message["Subject"] == ("Gr\u00fc\u00dfe " * 20 + "und mehr")
    assert message["From"].groups[0].display_name == "J\u00f6rg j\u00f6rg@b\u00fccher.test"
    assert message["From"].addresses == ()
    assert [address.addr_spec for address in message["To"].addresses] == ["bob@builder.test", "a@x.test"]
    assert message["To"].addresses[0].display_name == "Bob, the b\u00fcilder"
    assert message.get_content_type() == "text/plain" and message["Content-Type"].params["charset"] == "utf-8"
    assert message["Return-Path"] == "<j?rg@b?cher.test>"


def test_a_very_large_header_is_not_read_for_addresses() -> None:
    header = ("From: \u00e9" + "@" * (32 << 10)).encode()
    assert surrogate(header) == b"From: ?" + b"@" * (32 << 10)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("From: mjl@h\u00e9.example", "From: <mjl@xn--h-bga.example>"),
        ("From: Mechiel <mjl@h\u00e9.example>", "From: Mechiel <mjl@xn--h-bga.example>"),
        ('To: "Lukkien, M." <mjl@h\u00e9.example>, a@b', 'To: "Lukkien, M." <mjl@xn--h-bga.example>, a@b'),
        ("From: mjl@h\u00e9.example (M\u00e9)", "From: =?utf-8?b?TcOp?= <mjl@xn--h-bga.example>"),
        ('From: "m jl"@h\u00e9.example', 'From: <"m jl"@xn--h-bga.example>'),
        (
            'To: M <"m jl"@h\u00e9.example>, x y@h\u00e9.x',
            'To: M <"m jl"@xn--h-bga.example>, =?utf-8?b?eCB5QGjDqS54?= :;',
        ),
        ("From: J\u00f6rg Schmidt", "From: =?utf-8?q?J=C3=B6rg_Schmidt?= :;"),
        (
            "From: \u0418\u0432\u0430\u043d \u0418\u0432\u0430\u043d\u043e\u0432",
            "From: =?utf-8?b?0JjQstCw0L0g0JjQstCw0L3QvtCy?= :;",
        ),
        ("To: a@x, \u00e9@x, b@x", "To: a@x, =?utf-8?b?w6lAeA==?= :;, b@x"),
        ("To: Friends: a@x, b@h\u00e9.x; c@x", "To: Friends : a@x, <b@xn--h-bga.x>; c@x"),
        ("To: Fri\u00e9nds: a@x;", "To: =?utf-8?q?Fri=C3=A9nds?= : a@x;"),
        ("To: Friends: a@x, \u00e9@x;", "To: Friends : a@x;, =?utf-8?b?w6lAeA==?= :;"),
        ("Return-Path: <mjl@h\u00e9.example>", "Return-Path: <mjl@xn--h-bga.example>"),
        ("Return-Path: <\u00e9@x>", "Return-Path: <?@x>"),
        ("Message-ID: <\u00e9@x>", "Message-ID: <?@x>"),
        ("Received: from a by b for <\u00e9@x>; today", "Received: from a by b; today"),
        ("X-Mood: gl\u00fccklich", "X-Mood: =?utf-8?q?gl=C3=BCcklich?="),
        ('Content-Type: a/b; name="\u00e9.txt"; x=y', "Content-Type: a/b; name*=utf-8''%C3%A9.txt; x=y"),
        (
            "Content-Disposition: attachment; filename=\u00e9",
            "Content-Disposition: attachment; filename*=utf-8''%C3%A9",
        ),
        (
            "Content-Disposition: attachment; filename=\u00e9 1.txt (x); size=3",
            "Content-Disposition: attachment; filename*=utf-8''%C3%A9%201.txt (x); size=3",
        ),
    ],
)
def test_each_kind_of_field_keeps_what_ascii_can_say(field: str, expected: str) -> None:
    assert surrogate(field.encode()).decode() == expected


@given(
    st.lists(st.sampled_from(["From: ", "Subject: ", "X: ", "\u00e4", "<", ">", '"', ",", "@", "\r\n", " ", ":", ";"]))
)
def test_no_header_crashes_the_surrogate(parts: list[str]) -> None:
    header = "".join(parts).encode()
    assert surrogate(header).isascii()


@given(st.text())
def test_no_text_crashes_the_surrogate(text: str) -> None:
    header = f"From: {text}\r\nSubject: {text}".encode("utf-8", "replace")
    assert surrogate(header).isascii()


@pytest.mark.parametrize("part", ["(", "<@", "((a)", '("', "<(", "[(", "(\\"])
def test_comments_in_comments_without_end_do_not_keep_a_message_from_its_owner(part: str) -> None:
    header = f"To: {part * 5000}\u00e4\r\nSubject: x\r\n\r\n".encode()
    assert surrogate(header).endswith(b"\r\nSubject: x\r\n\r\n")


# Hostile clients.


@pytest.mark.parametrize("line", [b"NOOP\nQUIT\r\n", b"NO\0OP\r\n", b"NOOP\rQUIT\r\n", b"NOOP\r\r\n", b"NOOP\n"])
def test_only_crlf_ends_a_line(line: bytes) -> None:
    owner = Owner()
    assert owner.send(line + b"CAPA\r\n") == replies.BARE_LINE_END.line
    assert owner.engine.closed


def test_an_endless_line_ends_the_session_and_not_the_memory() -> None:
    owner = Owner()
    for _ in range(100):
        if owner.engine.wants_input:
            owner.send(b"x" * 4096)
    assert owner.output.endswith(b"-ERR Line too long\r\n") and owner.engine.closed
    owner = Owner()
    owner.send(LOGIN)
    assert owner.send(b"x" * 1025) == b"-ERR Line too long\r\n"


def test_too_many_errors_end_the_session() -> None:
    owner = Owner(max_errors=3)
    answer = owner.send(b"FOO\r\n" * 10)
    assert answer == replies.UNKNOWN_COMMAND.line * 4 + replies.TOO_MANY_ERRORS.line
    assert owner.events == [Closed("too many errors")]


def test_errors_before_tls_count_after_it() -> None:
    owner = Owner(tls=False, starttls=True, max_errors=3)
    owner.send(b"FOO\r\n" * 3 + b"STLS\r\n")
    owner.engine.tls_started(MECHANISMS)
    assert owner.send(b"FOO\r\n").endswith(replies.TOO_MANY_ERRORS.line)


def test_a_browser_is_turned_away() -> None:
    owner = Owner()
    assert owner.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nUSER bob\r\n") == replies.NOT_HERE.line
    assert owner.engine.closed


def test_output_that_is_not_taken_stops_the_engine() -> None:
    owner = Owner(messages=[b"x" * 9998 + b"\r\n"] * 10)
    owner.send(LOGIN)
    owner.engine.receive(b"RETR 1\r\n" * 1000)
    while (event := owner.engine.next_event()) is not None:
        owner.handle(event)
    assert owner.engine.full and len(owner.engine.take_output()) < 300_000
    assert not owner.engine.full and owner.engine.next_event() == MessageWanted(0, None)


def test_a_farewell_is_no_part_of_a_message() -> None:
    owner = Owner()
    owner.engine.shut_down(replies.SHUTTING_DOWN, "stop")
    assert owner.engine.take_output() == replies.SHUTTING_DOWN.line
    owner.engine.shut_down(replies.SHUTTING_DOWN, "stop")
    assert owner.engine.take_output() == b""
    owner = Owner()
    owner.send(LOGIN)
    owner.engine.receive(b"RETR 1\r\n")
    owner.engine.next_event()
    owner.engine.begin(1)
    owner.engine.shut_down(replies.SHUTTING_DOWN, "stop")
    assert owner.engine.take_output() == b"+OK 1 octets\r\n"
    assert not owner.engine.wants_input


def test_an_answer_after_the_end_changes_nothing_and_one_without_a_question_is_a_bug() -> None:
    owner = Owner()
    with pytest.raises(RuntimeError):
        owner.engine.answer(replies.BYE)
    owner.engine.receive(LOGIN)
    assert isinstance(owner.engine.next_event(), PasswordGiven)
    owner.engine.take_output()
    owner.engine.shut_down(None, "too slow")
    owner.engine.answer(replies.AUTH_FAILED)
    owner.engine.challenge(b"")
    owner.engine.begin(1)
    owner.enter()
    assert owner.engine.take_output() == b""
    assert owner.engine.next_event() == Closed("too slow")


_LINES = [b"USER bob", b"PASS pw", b"AUTH PLAIN", b"AGIAYQ==", b"*", b"STAT", b"LIST", b"UIDL 1", b"RETR 2", b"TOP 1 1"]
_LINES += [b"DELE 1", b"RSET", b"QUIT", b"CAPA", b"UTF8", b"FOO", b"", b" ", b"USER \xff", b"RETR 1\nx", b"STLS"]
_STREAM = st.lists(st.sampled_from(_LINES)).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


@given(_STREAM | st.binary(max_size=200), st.lists(st.integers(1, 30)), st.booleans())
def test_any_split_of_the_same_bytes_gives_the_same_events(stream: bytes, cuts: list[int], tls: bool) -> None:
    whole, split = Owner(tls=tls), Owner(tls=tls)
    whole.send(stream)
    position = 0
    for cut in cuts:
        split.send(stream[position : position + cut])
        position += cut
    split.send(stream[position:])
    assert split.events == whole.events
    assert split.output == whole.output


@pytest.mark.parametrize("lines", [b"CAPA\n", b"\n", b"USER bob\nPASS x\nQUIT\n"])
def test_lines_that_end_with_lf_are_answered_and_never_run(lines: bytes) -> None:
    owner = Owner()
    assert owner.send(lines) == replies.BARE_LINE_END.line * lines.count(b"\n")
    assert not owner.engine.closed and owner.events == []
    assert owner.send(b"CAPA\r\n").startswith(b"+OK")


@pytest.mark.parametrize("lines", [b"NOOP\nQUIT\r\n", b"NOOP\nQU", b"NOOP\n\0\n", b"NOOP\r\rX\n"])
def test_lf_and_anything_else_behind_it_ends_the_session(lines: bytes) -> None:
    owner = Owner()
    assert owner.send(lines) == replies.BARE_LINE_END.line and owner.engine.closed
