"""Reports as people and programs get them; the expected ones lie in `expected/`, to be read.

Run this file with `WRITE_EXPECTED=1` in the environment to write them anew, and read the difference.
"""

import os
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import cast

import pytest
from msgspec import structs

from waypost.message.address import Address
from waypost.message.dsn import compose, shortened
from waypost.message.envelope import Envelope, OriginalRecipient, Recipient
from waypost.message.reply import Reply, parse_reply
from waypost.message.report import Action, Concerned, Report
from waypost.message.trace import Micros, TraceId

SECOND = 1_000_000
HOUR = 3600 * SECOND
NOW: Micros = 1_795_539_446 * SECOND
ALICE = Address.parse("alice@wonderland.test")
BOB = Recipient(Address.parse("bob@builder.test"))
NOBODY = Recipient(Address.parse("nobody@builder.test"))
HEADER = (
    b"Received: from [127.0.0.1]\r\n\tby mx.wonderland.test (Waypost) with ESMTPSA\r\n"
    b"Message-ID: <tea@wonderland.test>\r\nFrom: Alice <alice@wonderland.test>\r\nTo: bob@builder.test\r\n"
    b"Subject: Tea at five?\r\n\r\n"
)
TRACE, ABOUT = TraceId((NOW << 10) + 1), TraceId(((NOW - 2 * SECOND) << 10) + 1)

FAILED = Report(
    action=Action.FAILED,
    trace=TRACE,
    date=NOW,
    hostname="mx.wonderland.test",
    to=ALICE,
    about=ABOUT,
    envelope=Envelope(ALICE),
    arrived=NOW - 2 * SECOND,
    concerned=(Concerned(NOBODY, "5.1.1", parse_reply("550 5.1.1 No such user here")),),
    header=HEADER,
    content=HEADER + b"Dear Bob,\r\n\r\ndo come. The Hatter insists.\r\n",
    remote="mx.builder.test",
    last_attempt=NOW - SECOND,
)
DELAYED = replace(
    FAILED,
    action=Action.DELAYED,
    arrived=NOW - 4 * HOUR,
    concerned=(Concerned(BOB, "4.4.1", problem="no mail server of builder.test answers"),),
    content=None,
    remote=None,
    retry_until=NOW + 116 * HOUR,
)
EXPIRED = replace(DELAYED, action=Action.FAILED, arrived=NOW - 120 * HOUR, retry_until=None, content=FAILED.content)
EXPIRED = replace(EXPIRED, concerned=(replace(DELAYED.concerned[0], status="5.4.7"),))
ENVELOPE = Envelope(ALICE, envid="QQ314159")
ASKED = Concerned(structs.replace(BOB, original=OriginalRecipient("rfc822", "Bob@Builder.test")), "2.1.5")
DELIVERED = replace(
    FAILED,
    action=Action.DELIVERED,
    envelope=ENVELOPE,
    concerned=(ASKED,),
    content=None,
    remote=None,
    last_attempt=None,
)
RELAYED = replace(
    DELIVERED,
    action=Action.RELAYED,
    concerned=(replace(ASKED, status="2.0.0", reply=parse_reply("250 2.0.0 Ok: queued as 4XyZ")),),
    remote="mx.builder.test",
    last_attempt=NOW,
)
EXPANDED = replace(DELIVERED, action=Action.EXPANDED)
LONG = Reply(
    550,
    "5.7.1",
    (
        "Our system has detected that this message is likely unsolicited mail. To reduce the amount of such mail",
        "this message has been blocked. Please visit",
        "https://support.example/?p=Unsolicited for more information.",
    ),
)
SEVERAL = replace(
    FAILED,
    concerned=(
        Concerned(NOBODY, "5.1.1", parse_reply("550 5.1.1 No such user here")),
        Concerned(Recipient(Address.parse("none@builder.test")), "5.1.1", parse_reply("550 5.1.1 No such user here")),
        Concerned(BOB, "5.7.1", LONG),
        Concerned(
            Recipient(Address("queen of hearts", "builder.test")), "5.2.2", parse_reply("552 5.2.2 Quota exceeded")
        ),
    ),
    content=None,
)
WIDE_HEADER = (
    "Message-ID: <thé@wonderland.test>\r\nFrom: Alice <alice@wonderland.test>\r\nSubject: Du thé à cinq heures ?\r\n"
    "\r\n"
).encode()
WIDE_RECIPIENT = Recipient(
    Address.parse("chapelier@bücher.test"), None, OriginalRecipient("utf-8", "le·fou@bücher.test")
)
WIDE = replace(
    FAILED,
    envelope=Envelope(ALICE, smtputf8=True),
    concerned=(Concerned(WIDE_RECIPIENT, "5.1.1", parse_reply("550 5.1.1 Pas d'abonné de ce nom à cette adresse")),),
    header=WIDE_HEADER,
    content=WIDE_HEADER + "À bientôt !\r\n".encode(),
    remote="mx.bücher.test",
)
TO_WIDE = replace(WIDE, to=Address.parse("élise@wonderland.test"))
HEADERS_ONLY_WIDE = replace(WIDE, content=None)

CASES = {
    "failed": FAILED,
    "failed_several": SEVERAL,
    "failed_expired": EXPIRED,
    "delayed": DELAYED,
    "delivered": DELIVERED,
    "relayed": RELAYED,
    "expanded": EXPANDED,
    "international": WIDE,
    "international_headers": HEADERS_ONLY_WIDE,
    "international_sender": TO_WIDE,
}


def parts_of(octets: bytes) -> list[Message]:
    return cast("list[Message]", message_from_bytes(octets).get_payload())


@pytest.mark.parametrize("name", CASES)
def test_the_report_is_the_expected_one(name: str) -> None:
    octets = compose(CASES[name]).octets
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
    path = Path(__file__).with_name("expected") / f"{name}.eml"
    if os.environ.get("WRITE_EXPECTED"):
        path.write_bytes(octets.replace(b"\r\n", b"\n"))
    assert octets.replace(b"\r\n", b"\n").decode() == path.read_text()


def test_a_report_for_an_ascii_sender_needs_neither_8bitmime_nor_smtputf8_whatever_it_is_about() -> None:
    for report in (WIDE, HEADERS_ONLY_WIDE):
        dsn = compose(report)
        assert dsn.octets.isascii()
        assert not dsn.eight_bit and not dsn.smtputf8


def test_a_report_for_an_international_sender_is_sent_with_smtputf8() -> None:
    dsn = compose(TO_WIDE)
    assert dsn.smtputf8 and dsn.eight_bit
    assert b"report-type=global-delivery-status" in dsn.octets


def test_an_international_domain_alone_needs_no_smtputf8() -> None:
    dsn = compose(replace(FAILED, to=Address.parse("alice@bücher.test")))
    assert b"To: <alice@xn--bcher-kva.test>\r\n" in dsn.octets
    assert not dsn.smtputf8


def test_eight_bit_content_is_returned_as_it_is() -> None:
    content = HEADER + b"caf\xe9\r\n"
    dsn = compose(replace(FAILED, content=content))
    assert dsn.eight_bit and not dsn.smtputf8
    assert content in dsn.octets


@pytest.mark.parametrize("body", [b"bare\nLF\r\n", b"bare\rCR\r\n", b"NUL\0\r\n", b"x" * 999 + b"\r\n"])
def test_content_that_no_mail_can_carry_is_returned_as_its_header_only(body: bytes) -> None:
    message = message_from_bytes(compose(replace(FAILED, content=HEADER + body)).octets)
    parts = message.get_payload()
    assert parts[2].get_content_type() == "text/rfc822-headers"  # type: ignore[union-attr, index]
    assert "The beginning of the message is attached" in parts[0].get_payload().replace("\n", " ")  # type: ignore


def test_header_lines_that_are_too_long_are_returned_in_quoted_printable() -> None:
    header = b"Subject: " + b"x" * 5000 + b"\r\nX-Odd: \xff\0\r\n\r\n"
    message = message_from_bytes(compose(replace(FAILED, header=header, content=None)).octets)
    part = message.get_payload()[2]  # type: ignore[index]
    assert part["Content-Transfer-Encoding"] == "quoted-printable"  # type: ignore[index]
    assert part.get_payload(decode=True) == header[:-2]  # type: ignore[union-attr]


def test_a_message_that_could_not_be_read_is_reported_all_the_same() -> None:
    message = message_from_bytes(compose(replace(FAILED, header=b"", content=None)).octets)
    assert len(message.get_payload()) == 2
    assert message["In-Reply-To"] is None


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("=?utf-8?q?th=C3=A9?=", "thé"),
        ("=?ü?q?x?=", "=?ü?q?x?="),
        ("=?punycode?q?x-aaa?=", "=?punycode?q?x-aaa?="),
        (" ".join(["=?utf-8?q?=C3=A9?="] * 250), "é" * 200 + "..."),
        ("=?utf-8?q?" + "a" * 20_000 + "?=", "=?utf-8?q?" + "a" * 190 + "..."),
    ],
)
def test_the_subject_is_shown_decoded_or_else_as_it_was_written(subject: str, shown: str) -> None:
    header = f"Subject: {subject}\r\n\r\n".encode()
    words = parts_of(compose(replace(FAILED, header=header)).octets)[0].get_payload(decode=True)
    assert isinstance(words, bytes)
    subject_lines = words.decode().partition("    Subject: ")[2].partition("    Sent:")[0]
    assert "".join(subject_lines.split()) == shown


@pytest.mark.parametrize(
    ("header", "body", "encoding"),
    [
        (HEADER, b"Come.\r\n", "7bit"),
        (HEADER, b"caf\xe9\r\n\r\n--=_\r\n", "7bit"),
        (b"Subject: The message is attached.\r\n\r\n", b"x\r\n", "7bit"),
        (b"Subject: Du th\xe9\r\n\r\n", b"caf\xe9\r\n", "quoted-printable"),
    ],
)
def test_a_report_is_shortened_to_what_goes_wherever_ascii_goes(header: bytes, body: bytes, encoding: str) -> None:
    whole = compose(replace(FAILED, header=header, content=header + body))
    dsn = shortened(whole.octets, whole.message_id)
    assert dsn == compose(replace(FAILED, header=header, content=None)), "as if it had been written so at once"
    assert dsn.octets.isascii() and not dsn.eight_bit and not dsn.smtputf8
    text, status, returned = parts_of(dsn.octets)
    assert "The beginning of the message is attached." in str(text.get_payload())
    assert status.as_string() == parts_of(whole.octets)[1].as_string()
    assert (returned.get_content_type(), returned["Content-Transfer-Encoding"]) == ("text/rfc822-headers", encoding)
    assert returned.get_payload(decode=True) == header[:-2]
    assert shortened(dsn.octets, dsn.message_id) is None, "there is nothing left to leave out"


def test_only_a_report_of_ours_that_returns_a_whole_message_in_ascii_terms_is_shortened() -> None:
    ours = compose(FAILED)
    assert shortened(ours.octets, "<0000000000000@mx.wonderland.test>") is None
    forged = (b"", HEADER, ours.octets.replace(b"=_", b"--"), ours.octets.replace(b"/rfc822", b"/plain"))
    others = (replace(FAILED, header=b"", content=None), DELAYED, WIDE, replace(FAILED, to=TO_WIDE.to))
    for octets in (*forged, *(compose(report).octets for report in others)):
        assert shortened(octets, ours.message_id) is None


def test_the_delimiter_occurs_in_no_part() -> None:
    first = compose(FAILED)
    boundary = message_from_bytes(first.octets).get_boundary()
    assert boundary is not None
    content = HEADER + b"--" + boundary.encode() + b"--\r\nforged\r\n"
    message = message_from_bytes(compose(replace(FAILED, content=content)).octets)
    assert message.get_boundary() != boundary
    assert len(message.get_payload()) == 3
