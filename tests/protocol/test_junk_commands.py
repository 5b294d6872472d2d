"""Commands that lead to nothing: past a limit their answers wait, past twice the limit the session ends."""

import pytest
from tests.protocol.test_pop3_server import LOGIN
from tests.protocol.test_pop3_server import Owner as Pop3Owner
from tests.protocol.test_smtp_server import Owner as SmtpOwner

from waypost.protocol.pop3.events import JunkSaid as Pop3JunkSaid
from waypost.protocol.pop3.replies import SHUTTING_DOWN
from waypost.protocol.smtp.events import JunkSaid
from waypost.protocol.smtp.replies import TOO_MUCH_JUNK

HELLO = b"EHLO x\r\n"
TRANSACTION = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@server.test>\r\n"
MESSAGE = TRANSACTION + b"BDAT 8 LAST\r\nA: b\r\n\r\n"
LIMIT = 10


def smtp(**options: object) -> SmtpOwner:
    owner = SmtpOwner(max_junk=LIMIT, max_errors=1000, **options)
    owner.send(HELLO)
    return owner


def waits(owner: SmtpOwner | Pop3Owner) -> int:
    return sum(isinstance(event, JunkSaid | Pop3JunkSaid) for event in owner.events)


@pytest.mark.parametrize(
    "command",
    [
        b"NOOP",
        b"NOOP with words",
        b"RSET",
        b"VRFY bob",
        b"VRFY",
        b"EXPN list",
        b"HELP",
        b"EHLO again",
        b"HELO again",
        b"WHAT",
        b"MAIL FROM:<>\r\nMAIL FROM:<>\r\nRSET",
        b"RCPT TO:<c@server.test>",
        b"DATA",
        b"AUTH PLAIN",
        b"MAIL FROM:<nonsense",
        b"MAIL FROM:<>\r\nRCPT TO:<c@server.test>\r\nBDAT 0",
    ],
)
def test_a_client_that_comes_to_nothing_waits_and_then_has_to_go(command: bytes) -> None:
    owner = smtp()
    count = 0
    while not owner.engine.closed:
        owner.send(command + b"\r\n")
        count += 1
        assert count <= 2 * LIMIT + 1
    assert count > LIMIT // 2 and LIMIT // 2 <= waits(owner) <= LIMIT
    assert owner.output.endswith(b"421 4.7.0 Too many commands without a message; please connect again\r\n")


def test_the_first_answers_do_not_wait() -> None:
    owner = smtp()
    owner.send(b"NOOP\r\n" * LIMIT)
    assert waits(owner) == 0
    owner.send(b"NOOP\r\n")
    assert waits(owner) == 1


def test_a_message_lets_the_count_begin_anew() -> None:
    owner = smtp()
    for _ in range(20):
        owner.send(b"NOOP\r\nRSET\r\n" + HELLO + MESSAGE)
    assert waits(owner) == 0 and owner.codes().count(250) == 20 * 6 + 1 and not owner.engine.closed


def test_a_session_that_delivers_one_message_after_the_other_is_never_slowed_down() -> None:
    owner = smtp()
    owner.send(MESSAGE * 200)
    assert waits(owner) == 0 and not owner.engine.closed


def test_one_message_for_many_recipients_may_be_given_up() -> None:
    owner = smtp(max_recipients=1000)
    recipients = b"".join(b"RCPT TO:<c%d@server.test>\r\n" % number for number in range(80))
    owner.send(b"MAIL FROM:<a@b.test>\r\n" + recipients + b"RSET\r\n")
    assert waits(owner) == 0 and not owner.engine.closed
    for _ in range(3):
        owner.send(b"MAIL FROM:<a@b.test>\r\n" + recipients + b"RSET\r\n")
    assert owner.engine.closed, "the same again and again"


def test_recipients_past_the_limit_are_refused_as_often_again_and_not_for_ever() -> None:
    """RFC 5321 4.5.3.1.10: a client sends the rest in another message. It may have pipelined all of them."""
    owner = smtp(max_recipients=100)
    owner.send(b"MAIL FROM:<a@b.test>\r\n" + b"RCPT TO:<c@server.test>\r\n" * 200)
    assert owner.codes().count(452) == 100 and waits(owner) == 0
    owner.send(b"RCPT TO:<c@server.test>\r\n" * 200)
    assert owner.engine.closed and owner.codes().count(452) == 100 + 2 * LIMIT + 1


def test_a_login_lets_the_count_begin_anew() -> None:
    owner = smtp(submission=True, mechanisms=("PLAIN",), tls=True)
    owner.send(b"NOOP\r\n" * LIMIT + b"AUTH PLAIN AGEAYg==\r\n" + b"NOOP\r\n" * LIMIT)
    assert waits(owner) == 0


def test_tls_is_no_way_to_begin_anew() -> None:
    owner = smtp(starttls=True)
    owner.send(b"NOOP\r\n" * LIMIT + b"STARTTLS\r\n")
    owner.engine.tls_started()
    owner.send(HELLO + b"NOOP\r\n")
    assert waits(owner) == 1


def test_the_reply_says_that_another_connection_is_welcome() -> None:
    assert TOO_MUCH_JUNK.code == 421 and TOO_MUCH_JUNK.temporary


# POP3.


def pop3(*, messages: int, login: bool = True) -> Pop3Owner:
    owner = Pop3Owner(messages=[b"Subject: x\r\n\r\nhello\r\n"] * messages, max_junk=LIMIT, max_errors=1000)
    if login:
        owner.send(LOGIN)
    return owner


@pytest.mark.parametrize(
    ("command", "login"),
    [
        (b"CAPA", False),
        (b"UTF8", False),
        (b"USER bob", False),
        (b"NOOP", False),
        (b"STAT", False),
        (b"NOOP", True),
        (b"STAT", True),
        (b"LIST", True),
        (b"UIDL", True),
        (b"CAPA", True),
        (b"RSET", True),
        (b"WHAT", True),
        (b"RETR 9", True),
        (b"DELE 1\r\nRSET", True),
    ],
)
def test_a_pop3_client_that_comes_to_nothing_waits_and_then_has_to_go(command: bytes, login: bool) -> None:
    owner = pop3(messages=1, login=login)
    limit = LIMIT + 4 if login else LIMIT
    count = 0
    while not owner.engine.closed:
        owner.send(command + b"\r\n")
        count += 1
        assert count <= 2 * limit + 1
    assert count > limit // 2 and limit // 2 <= waits(owner) <= limit
    assert owner.output.endswith(b"-ERR Too many commands that lead to nothing; please connect again\r\n")


def test_a_client_may_ask_for_everything_of_each_message() -> None:
    owner = pop3(messages=300)
    for number in range(1, 301):
        owner.send(b"LIST %d\r\nUIDL %d\r\nTOP %d 0\r\nRETR %d\r\nDELE %d\r\n" % ((number,) * 5))
    assert waits(owner) == 0 and not owner.engine.closed
    assert owner.send(b"QUIT\r\n").startswith(b"+OK")


def test_a_listing_of_many_messages_comes_in_parts_and_whole() -> None:
    owner = Pop3Owner(messages=[b""] * 50_000)
    owner.send(LOGIN)
    owner.engine.receive(b"LIST\r\nUIDL\r\nNOOP\r\n")
    most, output = 0, b""
    while owner.engine.next_event() is not None or owner.engine.full:
        written = owner.engine.take_output()
        most, output = max(most, len(written)), output + written
    output += owner.engine.take_output()
    assert most < 300_000
    listing, unique, noop = output.split(b"\r\n.\r\n")
    assert listing.count(b"\r\n") == unique.count(b"\r\n") == 50_000
    assert listing.endswith(b"\r\n50000 0") and noop.startswith(b"+OK")


def test_a_farewell_is_no_part_of_a_listing() -> None:
    owner = Pop3Owner(messages=[b""] * 50_000)
    owner.send(LOGIN)
    owner.engine.receive(b"LIST\r\n")
    owner.engine.next_event()
    owner.engine.shut_down(SHUTTING_DOWN, "stop")
    assert b"-ERR" not in owner.engine.take_output()
