"""The SMTP server engine, by the sections of its RFCs, and against what hostile clients send."""

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.address import Address
from waypost.message.envelope import BodyType, Notify, Ret
from waypost.protocol.reply import Reply, reply
from waypost.protocol.smtp import replies
from waypost.protocol.smtp.events import (
    AuthCancelled,
    AuthResponse,
    AuthStarted,
    Closed,
    DataStarted,
    Hello,
    MailOffered,
    MessageChunk,
    MessageEnded,
    MessageRefused,
    MuchSaid,
    RecipientOffered,
    ServerEvent,
    StartTls,
)
from waypost.protocol.smtp.server import COMMANDS, ServerOptions, SmtpServer

NOW = 1_795_500_000_000_000
HELLO = b"EHLO client.test\r\n"
ENVELOPE = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@server.test>\r\n"


class Owner:
    """Answers every question with yes, and remembers what was asked."""

    def __init__(self, *, tls: bool = False, **options: object) -> None:
        self.engine = SmtpServer(ServerOptions("mx.server.test", **options), now=lambda: NOW, tls=tls)  # type: ignore[arg-type]
        self.events: list[ServerEvent] = []
        self.messages: list[bytes] = []
        self.output = b""
        self._arriving: list[bytes] = []
        self.refuse: dict[type, Reply] = {}
        self.engine.greet()
        self._drive()

    def send(self, data: bytes) -> bytes:
        """Give bytes; return what the engine wrote for them."""
        before = len(self.output)
        self.engine.receive(data)
        self._drive()
        return self.output[before:]

    def _drive(self) -> None:
        while (event := self.engine.next_event()) is not None:
            if isinstance(event, MessageChunk):
                self._arriving.append(event.data)
            else:
                self.events.append(event)
            self._handle(event)
        self.output += self.engine.take_output()

    def _handle(self, event: ServerEvent) -> None:
        refusal = self.refuse.get(type(event))
        match event:
            case Hello() | MailOffered() | RecipientOffered() | DataStarted():
                self.engine.answer(refusal or replies.OK)
            case StartTls():
                self.engine.answer(replies.START_TLS)
            case AuthStarted() if event.initial is None:
                self.engine.challenge(b"")
            case AuthStarted() | AuthResponse():
                self.engine.answer(refusal or replies.AUTHENTICATED)
            case MessageEnded():
                self.messages.append(b"".join(self._arriving))
                self._arriving.clear()
                self.engine.answer(refusal or replies.queued("0123456789abc"))
            case MessageRefused():
                self._arriving.clear()
            case _:
                return

    def codes(self) -> list[int]:
        return [int(line[:3]) for line in self.output.split(b"\r\n") if line[3:4] == b" "]

    def last(self, kind: type) -> ServerEvent:
        return [event for event in self.events if isinstance(event, kind)][-1]


def test_a_whole_session_in_one_packet() -> None:
    owner = Owner()
    owner.send(HELLO + ENVELOPE + b"DATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n")
    assert owner.messages == [b"Subject: x\r\n\r\nhi\r\n"]
    assert owner.codes() == [220, 250, 250, 250, 354, 250, 221]
    assert owner.events[-1] == Closed("quit")


def test_every_reply_after_the_greeting_has_an_enhanced_code() -> None:
    owner = Owner(max_errors=100)
    lines = b"FOO\r\nMAIL\r\nNOOP\r\nVRFY x\r\nEXPN x\r\nHELP\r\nRSET\r\nDATA\r\nSTARTTLS\r\nAUTH X\r\nRCPT TO:<>\r\n"
    written = owner.send(HELLO) and owner.send(lines + ENVELOPE + b"QUIT\r\n")
    for line in written.split(b"\r\n")[:-1]:
        status = line[4:].split()[0].decode()
        assert status[0] == line[:1].decode() and status.count(".") == 2, line


def test_what_is_offered_is_listed() -> None:
    listed = Owner(starttls=True, submission=True, mechanisms=("PLAIN",)).send(HELLO)
    for keyword in (b"PIPELINING", b"SIZE 52428800", b"8BITMIME", b"CHUNKING", b"BINARYMIME", b"SMTPUTF8", b"DSN"):
        assert keyword in listed
    for keyword in (b"STARTTLS", b"FUTURERELEASE", b"DELIVERBY", b"MT-PRIORITY", b"LIMITS", b"ENHANCEDSTATUSCODES"):
        assert keyword in listed
    assert b"AUTH" not in listed, "AUTH is offered over TLS only"
    assert b"AUTH PLAIN" in Owner(tls=True, mechanisms=("PLAIN",)).send(HELLO)


@pytest.mark.parametrize("command", [*ENVELOPE.split(b"\r\n")[:2], b"DATA", b"BDAT 0 LAST"])
def test_nothing_is_possible_before_ehlo(command: bytes) -> None:
    assert Owner().send(command + b"\r\n").startswith(b"503 5.5.1")


def test_the_order_of_commands_is_kept() -> None:
    owner = Owner()
    owner.send(HELLO)
    assert owner.send(b"RCPT TO:<b@server.test>\r\n").startswith(b"503")
    assert owner.send(b"DATA\r\n").startswith(b"503")
    owner.send(b"MAIL FROM:<>\r\n")
    assert owner.send(b"MAIL FROM:<>\r\n").startswith(b"503"), "no nested MAIL"
    assert owner.send(b"DATA\r\n").startswith(b"554 5.5.1"), "no recipients"


def test_ehlo_again_and_rset_forget_the_envelope() -> None:
    for forget in (HELLO, b"RSET\r\n"):
        owner = Owner()
        owner.send(HELLO + ENVELOPE + forget)
        assert owner.engine.envelope is None
        assert owner.send(b"DATA\r\n").startswith(b"503")


def test_a_refused_recipient_is_not_in_the_envelope() -> None:
    owner = Owner()
    owner.send(HELLO + ENVELOPE)
    owner.refuse[RecipientOffered] = replies.NO_SUCH_USER
    assert owner.send(b"RCPT TO:<c@server.test>\r\n").startswith(b"550 5.1.1")
    assert owner.engine.envelope and len(owner.engine.envelope.recipients) == 1


def test_parameters_of_mail_and_rcpt_are_read() -> None:
    owner = Owner(submission=True)
    owner.send(HELLO)
    owner.send(
        b"MAIL FROM:<a@x.test> SIZE=99 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb "
        b"HOLDFOR=60 BY=120;N MT-PRIORITY=-3\r\n"
    )
    mail = owner.last(MailOffered)
    assert isinstance(mail, MailOffered)
    envelope = mail.envelope
    assert (envelope.size, envelope.body, envelope.smtputf8) == (99, BodyType.EIGHT_BIT, True)
    assert (envelope.ret, envelope.envid, envelope.priority) == (Ret.HEADERS, "a+b", -3)
    assert envelope.hold_until == NOW + 60_000_000
    assert envelope.deliver_by and envelope.deliver_by.deadline == NOW + 120_000_000
    owner.send("RCPT TO:<bøb@x.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+40x.test\r\n".encode())
    offered = owner.last(RecipientOffered)
    assert isinstance(offered, RecipientOffered)
    assert offered.recipient.address == Address("bøb", "x.test")
    assert offered.recipient.notify == Notify.SUCCESS | Notify.DELAY
    assert offered.recipient.original and offered.recipient.original.address == "bob@x.test"


@pytest.mark.parametrize("time", [b"2000-01-01T00:00:00Z", b"0001-01-01T00:00:00+23:59"])
def test_mail_that_was_to_be_held_until_a_time_in_the_past_is_held_until_now(time: bytes) -> None:
    owner = Owner(submission=True)
    owner.send(HELLO + b"MAIL FROM:<a@x.test> HOLDUNTIL=" + time + b"\r\n")
    mail = owner.last(MailOffered)
    assert isinstance(mail, MailOffered) and mail.envelope.hold_until == NOW


@pytest.mark.parametrize(
    "parameter",
    [
        b"SIZE=x",
        b"BODY=9BIT",
        b"RET=ALL",
        b"ENVID=a+0A",
        b"SMTPUTF8=1",
        b"SIZE=1 SIZE=2",
        b"HOLDFOR=0",
        b"HOLDUNTIL=x",
        b"BY=0;R",
        b"MT-PRIORITY=10",
        b"AUTH=",
    ],
)
def test_malformed_parameters_are_refused(parameter: bytes) -> None:
    owner = Owner(submission=True)
    owner.send(HELLO)
    assert owner.send(b"MAIL FROM:<a@x.test> " + parameter + b"\r\n").startswith(b"501 5.5.4")


def test_parameters_that_are_not_offered_are_refused() -> None:
    owner = Owner()
    owner.send(HELLO)
    assert owner.send(b"MAIL FROM:<a@x.test> HOLDFOR=60\r\n").startswith(b"555 5.5.4")
    assert owner.send(b"MAIL FROM:<a@x.test> FOO\r\n").startswith(b"555 5.5.4")
    assert owner.send("MAIL FROM:<ä@x.test>\r\n".encode()).startswith(b"553 5.6.7")


@pytest.mark.parametrize(
    "parameter",
    [
        b"NOTIFY=NEVER,DELAY",
        b"NOTIFY=",
        b"ORCPT=bob",
        b"ORCPT=rfc822;a+0Ab",
        b"ORCPT=r\xc3\xbcfc822;bob",  # RFC 3461 4.2: the type is an atom
        b'ORCPT="rfc822";bob',
        b"ORCPT=rfc<822>;bob",
        b"X=1",
    ],
)
def test_malformed_parameters_of_rcpt_are_refused(parameter: bytes) -> None:
    owner = Owner()
    owner.send(HELLO + b"MAIL FROM:<>\r\n")
    assert owner.send(b"RCPT TO:<b@server.test> " + parameter + b"\r\n")[:2] in (b"50", b"55")


def test_a_declared_size_over_the_limit_is_refused() -> None:
    owner = Owner(max_message_size=1000)
    owner.send(HELLO)
    assert owner.send(b"MAIL FROM:<> SIZE=1001\r\n").startswith(b"552 5.3.4")


def test_a_message_over_the_limit_is_swallowed_and_refused() -> None:
    owner = Owner(max_message_size=1000)
    owner.send(HELLO + ENVELOPE + b"DATA\r\n")
    assert owner.send(b"x" * 70 + b"\r\n") == b""
    assert owner.send((b"x" * 70 + b"\r\n") * 20 + b".\r\nNOOP\r\n").startswith(b"552 5.3.4")
    assert owner.messages == [] and owner.codes()[-1] == 250, "the session goes on"


def test_dots_are_unstuffed() -> None:
    owner = Owner()
    owner.send(HELLO + ENVELOPE + b"DATA\r\n..\r\n...x\r\n.y\r\n\r\n.\r\n")
    assert owner.messages == [b".\r\n..x\r\ny\r\n\r\n"]


def test_an_empty_message_is_a_message() -> None:
    owner = Owner()
    owner.send(HELLO + ENVELOPE + b"DATA\r\n.\r\n")
    assert owner.messages == [b""]


@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r.\r\n", b"\n\n.\r\n"],
)
@pytest.mark.parametrize("whole", [True, False])
def test_no_line_end_but_crlf_ends_data(end: bytes, whole: bool) -> None:
    owner = Owner(max_errors=100)
    smuggled = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<c@server.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
    stream = b"Subject: x\r\n\r\nhi" + end + smuggled
    owner.send(HELLO + ENVELOPE + b"DATA\r\n")
    for piece in [stream] if whole else [stream[i : i + 1] for i in range(len(stream))]:
        owner.send(piece)
    assert owner.messages == [], "the spoiled message is refused, and nothing in it is run as a second one"
    assert any(code >= 500 for code in owner.codes())


def test_a_bare_cr_before_the_true_end_spoils_the_message() -> None:
    owner = Owner()
    owner.send(HELLO + ENVELOPE + b"DATA\r\nhi\r\r\n.\r\n")
    assert owner.messages == [] and owner.codes()[-1] == 550


@pytest.mark.parametrize("line", [b"NOOP\nQUIT\r\n", b"NOOP\rQUIT\r\n", b"NO\0OP\r\n"])
def test_a_bare_line_end_in_a_command_is_refused_and_nothing_of_it_is_run(line: bytes) -> None:
    owner = Owner()
    assert owner.send(HELLO) and owner.send(line).startswith(b"554 5.5.2")
    assert isinstance(owner.events[-1], Closed)


def test_what_is_pipelined_behind_starttls_is_never_run() -> None:
    owner = Owner(starttls=True)
    owner.send(HELLO)
    assert owner.send(b"STARTTLS\r\nMAIL FROM:<evil@x.test>\r\nNOOP\r\n") == b"220 2.0.0 Ready to start TLS\r\n"
    owner.engine.tls_started()
    assert owner.send(b"MAIL FROM:<a@x.test>\r\n").startswith(b"503"), "EHLO comes first again"
    assert b"STARTTLS" not in owner.send(HELLO)


def test_auth_with_initial_response_challenge_and_cancel() -> None:
    secret = base64.b64encode(b"\0a\0b")
    owner = Owner(tls=True, mechanisms=("PLAIN",), auth_required=True)
    owner.send(HELLO)
    assert owner.send(b"MAIL FROM:<>\r\n").startswith(b"530 5.7.0")
    assert owner.send(b"AUTH PLAIN\r\n") == b"334 \r\n"
    assert owner.send(b"*\r\n").startswith(b"501 5.7.0")
    assert owner.send(b"AUTH FOO\r\n").startswith(b"504")
    assert owner.send(b"AUTH PLAIN !!!\r\n").startswith(b"501 5.5.2")
    assert owner.send(b"AUTH PLAIN " + secret + b"\r\n").startswith(b"235")
    assert owner.send(b"AUTH PLAIN " + secret + b"\r\n").startswith(b"503")
    assert owner.send(b"MAIL FROM:<>\r\n").startswith(b"250")
    assert owner.last(AuthStarted) == AuthStarted("PLAIN", b"\0a\0b")


def in_auth(**options: object) -> Owner:
    """A session that waits for the client's answer to a challenge."""
    owner = Owner(tls=True, mechanisms=("PLAIN",), **options)
    owner.send(HELLO)
    assert owner.send(b"AUTH PLAIN\r\n") == b"334 \r\n"
    return owner


def test_an_answer_to_auth_may_end_with_lf_alone() -> None:
    owner = in_auth()
    assert owner.send(b"AGEA") == b""
    assert owner.send(b"Yg==\n").startswith(b"235")
    assert owner.last(AuthResponse) == AuthResponse(b"\0a\0b")
    assert owner.send(b"NOOP\r\n").startswith(b"250")
    owner = in_auth()
    assert owner.send(b"*\n").startswith(b"501 5.7.0")
    owner = in_auth()
    assert owner.send(b"no base64!\n").startswith(b"501 5.5.2")
    assert owner.send(b"NOOP\r\n").startswith(b"250")


@pytest.mark.parametrize(
    "lines", [b"AGEAYg==\nNOOP\n", b"AGEAYg==\nNOOP\r\n", b"AGEA\0Yg==\n", b"AGEA\rYg==\n", b"*\n*\n"]
)
def test_nothing_hides_behind_such_an_answer(lines: bytes) -> None:
    owner = in_auth()
    assert owner.send(lines).startswith(b"554 5.5.2")
    assert owner.engine.closed
    assert not [event for event in owner.events if isinstance(event, AuthResponse)]


def test_an_answer_to_auth_that_is_too_long_ends_the_exchange() -> None:
    """RFC 4954 section 4. What follows is a command, and no answer: QUIT would be base64."""
    owner = in_auth()
    assert owner.send(b"A" * 12_400 + b"\r\nQUIT\r\n").startswith(b"500 5.5.6")
    assert isinstance(owner.last(AuthCancelled), AuthCancelled)
    assert owner.events[-1] == Closed("quit")


def test_auth_without_tls_is_refused() -> None:
    owner = Owner(mechanisms=("PLAIN",))
    owner.send(HELLO)
    assert owner.send(b"AUTH PLAIN AGEAYg==\r\n").startswith(b"538 5.7.11")


def test_bdat_takes_chunks_and_binary_content() -> None:
    owner = Owner()
    owner.send(HELLO + b"MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@server.test>\r\n")
    assert owner.send(b"DATA\r\n").startswith(b"503")
    owner.send(b"BDAT 6\r\na\0b\n.\nBDAT 3 LAST\r\nc\rd")
    assert owner.messages == [b"a\0b\n.\nc\rd"]


def test_bdat_of_text_is_refused_with_a_bare_cr_across_a_border() -> None:
    owner = Owner()
    owner.send(HELLO + ENVELOPE + b"BDAT 3\r\nab\rBDAT 3 LAST\r\n\ncd")
    assert owner.messages == [b"ab\r\ncd"], "a CRLF may be split"
    owner.send(ENVELOPE + b"BDAT 3\r\nab\rBDAT 3 LAST\r\nxcd")
    assert len(owner.messages) == 1 and b"550 5.6.11" in owner.output


def test_a_refused_bdat_drops_its_octets() -> None:
    owner = Owner()
    owner.send(HELLO)
    written = owner.send(b"BDAT 10 LAST\r\nQUIT\r\nQUIT\r\n"[:-2] + b"\r\nNOOP\r\n")
    assert written.count(b"503") == 1 and b"221" not in written.split(b"250")[0]


def test_lmtp_answers_for_each_recipient() -> None:
    owner = Owner(lmtp=True)
    assert owner.send(HELLO).startswith(b"500")
    owner.send(b"LHLO client.test\r\n" + ENVELOPE + b"RCPT TO:<c@server.test>\r\n")
    engine = owner.engine
    engine.receive(b"DATA\r\nhi\r\n.\r\n")
    while not isinstance(event := engine.next_event(), MessageEnded):
        if isinstance(event, DataStarted):
            engine.answer(replies.OK)
    engine.take_output()
    engine.answer_each([replies.OK, replies.MAILBOX_FULL])
    assert [line[:3] for line in engine.take_output().split(b"\r\n")[:-1]] == [b"250", b"452"]


def test_lmtp_without_recipients_refuses_data_and_is_silent_after_the_last_chunk() -> None:
    owner = Owner(lmtp=True)
    owner.send(b"LHLO client.test\r\nMAIL FROM:<a@client.test>\r\n")
    assert owner.send(b"DATA\r\n").startswith(b"503"), "RFC 2033 4.2"
    assert owner.send(b"BDAT 4 LAST\r\nQUIT") == b"", "RFC 2033 4.3"
    assert owner.send(b"NOOP\r\n").startswith(b"250 ")
    assert owner.send(b"BDAT 4\r\nQUIT").startswith(b"503"), "a chunk that is not the last has an answer"
    owner.send(b"RSET\r\nMAIL FROM:refused\r\n")
    assert owner.send(b"BDAT 0 LAST\r\nNOOP\r\n").startswith(b"250 "), "RFC 2033 4.3"


@pytest.mark.parametrize("before", [b"", HELLO, HELLO + ENVELOPE])
@pytest.mark.parametrize("argument", [b"", b" x", b" 9999999999999999999", b" 5 LAST x", b" LAST"])
def test_a_chunk_without_a_size_ends_the_session_wherever_it_comes(before: bytes, argument: bytes) -> None:
    owner = Owner()
    owner.send(before)
    written = owner.send(b"BDAT" + argument + b"\r\nQUIT\r\n")
    assert written.startswith(b"501") and b"221" not in written, "its octets are not commands"
    assert isinstance(owner.events[-1], Closed)


def test_more_recipients_than_the_limit_are_for_another_message() -> None:
    owner = Owner(max_recipients=2, max_errors=3)
    owner.send(HELLO + b"MAIL FROM:<a@client.test>\r\n")
    owner.send(b"".join(b"RCPT TO:<%d@server.test>\r\n" % number for number in range(20)))
    assert owner.codes()[-20:] == [250] * 2 + [452] * 18, "RFC 5321 4.5.3.1.10"
    owner.send(b"DATA\r\nhi\r\n.\r\n")
    assert owner.messages == [b"hi\r\n"]


def test_errors_are_forgotten_when_a_message_was_taken() -> None:
    owner = Owner(max_errors=3)
    owner.send(HELLO)
    for _ in range(4):
        owner.send(b"FOO\r\n" * 3 + ENVELOPE + b"DATA\r\nhi\r\n.\r\n")
    assert len(owner.messages) == 4
    owner.send(b"FOO\r\n" * 4)
    assert owner.codes()[-1] == 421


def test_too_many_errors_close_the_session() -> None:
    owner = Owner(max_errors=3)
    owner.send(b"FOO\r\n" * 5)
    assert owner.codes()[-1] == 421 and isinstance(owner.events[-1], Closed)


def test_http_is_sent_away() -> None:
    owner = Owner()
    assert owner.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<>\r\n").startswith(b"554")
    assert isinstance(owner.events[-1], Closed)


def test_a_line_without_an_end_is_bounded() -> None:
    owner = Owner()
    for _ in range(200):
        if owner.engine.wants_input:
            owner.send(b"x" * 50_000)
    assert isinstance(owner.events[-1], Closed) and b"500 5.5.6" in owner.output


def test_input_is_bounded_while_an_answer_is_awaited() -> None:
    engine = SmtpServer(ServerOptions("mx.server.test"), now=lambda: NOW)
    engine.greet()
    engine.receive(HELLO)
    assert isinstance(engine.next_event(), Hello)
    engine.receive(b"NOOP\r\n" * 20_000)
    assert not engine.wants_input and engine.next_event() is None


def test_many_commands_at_once_are_answered_in_parts() -> None:
    owner = Owner(max_junk=10_000)
    owner.engine.receive(HELLO + b"HELP\r\n" * 10_000)
    most = 0
    while (event := owner.engine.next_event()) is not None:
        owner._handle(event)
        written = owner.engine.take_output()
        most = max(most, written.count(b"\r\n"))
        owner.output += written
    owner.output += owner.engine.take_output()
    assert most < 100 and owner.codes().count(214) == 10_000


def test_limits_of_recipients_and_transactions() -> None:
    owner = Owner(max_recipients=1, max_transactions=1)
    owner.send(HELLO + ENVELOPE)
    assert owner.send(b"RCPT TO:<c@server.test>\r\n").startswith(b"452 4.5.3")
    owner.send(b"RSET\r\n")
    assert owner.send(b"MAIL FROM:<>\r\n").startswith(b"421 4.5.3")


def test_a_greeting_may_refuse() -> None:
    engine = SmtpServer(ServerOptions("mx.server.test"), now=lambda: NOW)
    engine.greet(reply(421, "4.7.0", "later"))
    assert isinstance(engine.next_event(), Closed) and engine.take_output() == b"421 4.7.0 later\r\n"


def test_the_command_table_names_its_sections() -> None:
    assert all(command.section.startswith("RFC ") for command in COMMANDS.values())


def test_a_reply_is_cut_to_what_a_client_must_take() -> None:
    owner = Owner()
    owner.send(HELLO)
    written = owner.send(b"MAIL FROM:<a@x.test> " + b"X" * 3000 + b"\r\n")
    assert written.startswith(b"555 5.5.4") and len(written) <= 512


def test_a_reply_is_outside_ascii_only_where_the_transaction_is() -> None:
    owner = Owner()
    owner.send(HELLO + b"MAIL FROM:<>\r\n")
    owner.refuse[RecipientOffered] = reply(550, "5.1.1", "no bøb here")
    assert owner.send(b"RCPT TO:<b@x.test>\r\n") == b"550 5.1.1 no b\\xf8b here\r\n"
    owner.send(b"RSET\r\nMAIL FROM:<> SMTPUTF8\r\n")
    assert owner.send(b"RCPT TO:<b@x.test>\r\n") == "550 5.1.1 no bøb here\r\n".encode()


def test_a_chunk_of_no_octets_is_whole_at_once() -> None:
    owner = Owner()
    owner.send(HELLO + ENVELOPE + b"BDAT 3\r\nabc")
    assert owner.send(b"BDAT 0\r\n").startswith(b"250")
    assert owner.send(b"BDAT 0 LAST\r\n").startswith(b"250") and owner.messages == [b"abc"]


def test_the_mechanisms_are_those_of_the_tls_connection() -> None:
    owner = Owner(starttls=True, mechanisms=("PLAIN",))
    owner.send(HELLO + b"STARTTLS\r\n")
    owner.engine.tls_started(("SCRAM-SHA-256-PLUS", "PLAIN"))
    assert b"AUTH SCRAM-SHA-256-PLUS PLAIN\r\n" in owner.send(HELLO)


def test_the_owner_can_see_what_the_engine_waits_for() -> None:
    engine = SmtpServer(ServerOptions("mx.server.test"), now=lambda: NOW)
    engine.greet()
    engine.receive(HELLO)
    assert engine.has_input and not engine.asks and not engine.reads_content and not engine.closed
    assert isinstance(engine.next_event(), Hello) and engine.asks
    engine.answer(replies.OK)
    assert not engine.asks and not engine.has_input
    for _ in range(100):
        engine.receive(b"NOOP\r\n")
        assert engine.next_event() in (None, MuchSaid())
    assert engine.says_much and engine.take_output() and not engine.says_much


SESSION = (
    HELLO
    + ENVELOPE
    + b"DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nNOOP\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@server.test>\r\n"
    + b"BDAT 5\r\n\r\n.\r\nBDAT 2 LAST\r\n\0\nFOO\r\nRSET\r\nQUIT\r\n"
)


@given(st.lists(st.integers(0, len(SESSION)), max_size=40))
def test_any_split_of_the_same_bytes_gives_the_same_events(cuts: list[int]) -> None:
    whole, split = Owner(), Owner()
    whole.send(SESSION)
    edges = [0, *sorted(cuts), len(SESSION)]
    for start, end in itertools.pairwise(edges):
        split.send(SESSION[start:end])
    assert split.output == whole.output
    assert split.events == whole.events and split.messages == whole.messages


WORDS = st.sampled_from(
    [
        b"EHLO x\r\n",
        b"MAIL FROM:<a@b>\r\n",
        b"RCPT TO:<c@d>\r\n",
        b"DATA\r\n",
        b".\r\n",
        b"BDAT 3\r\n",
        b"BDAT 1 LAST\r\n",
    ]
    + [b"RSET\r\n", b"\r\n", b"\n", b"\0", b"AUTH PLAIN\r\n", b"STARTTLS\r\n", b"\xff\xfe", b"x" * 300, b"*\r\n"]
)


@given(st.lists(st.one_of(WORDS, st.binary(max_size=40)), max_size=60))
def test_no_input_crashes_the_engine_or_makes_it_say_rubbish(pieces: list[bytes]) -> None:
    owner = Owner(tls=True, mechanisms=("PLAIN",))
    for piece in pieces:
        owner.send(piece)
    for line in owner.output.split(b"\r\n")[:-1]:
        assert line[:3].isdigit() and b"\n" not in line and b"\0" not in line
