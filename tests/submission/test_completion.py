"""The header of a submitted message: what must be right, what is added, what is taken away (RFC 6409 8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.intake.conversation import NOW

from waypost.message.headers import HeaderBlock
from waypost.message.trace import TraceId
from waypost.submission.completion import Malformed, complete, read_originators

FROM = b"From: alice@here.test\r\n"
TRACE = TraceId(1838592000000000000)


def originators(header: bytes, *, smtputf8: bool = False) -> list[str]:
    return [str(address) for address in read_originators(HeaderBlock(header + b"\r\n"), smtputf8=smtputf8)]


def completed(header: bytes) -> tuple[bytes, str | None]:
    return complete(HeaderBlock(header), trace=TRACE, hostname="mx.here.test", now=NOW)


def test_whom_a_message_is_from() -> None:
    assert originators(FROM) == ["alice@here.test"]
    two = b'From: A <a@here.test>, "B, C" <b@here.test>\r\nSender: a@here.test\r\n'
    assert originators(two) == ["a@here.test", "b@here.test", "a@here.test"]
    assert originators(b"from: Alice\r\n <alice@here.test>\r\n") == ["alice@here.test"]
    assert originators(b"From: [List] Alice <alice@here.test>\r\n") == ["alice@here.test"]
    assert originators(b'From: "bob@there.test" <alice@here.test>\r\n') == ["alice@here.test"]
    assert originators("From: bjørn@exämple.test\r\n".encode(), smtputf8=True) == ["bjørn@exämple.test"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"Subject: x\r\n", "There is no From: field"),
        (b"", "There is no From: field"),
        (FROM * 2, "There is more than one From: field"),
        (FROM + b"Date: x\r\nDATE: y\r\n", "There is more than one Date: field"),
        (FROM + b"Subject: x\r\nSubject : y\r\n", "There is more than one Subject: field"),
        (FROM + b"To: x\r\nTo: y\r\n", "There is more than one To: field"),
        (FROM + b"Message-ID: <x>\r\nmessage-id: <y>\r\n", "There is more than one Message-ID: field"),
        (FROM + b"Hello\r\n", "This line of the header is no field: 'Hello'"),
        (b" folded\r\n" + FROM, "This line of the header is no field: 'folded'"),
        (b"From: Alice\r\n", "From: can't be read: 'Alice' has no address"),
        (b"From:\r\n", "From: can't be read: an address is missing"),
        (b"From: ceo@there.test: alice@here.test;\r\n", "From: can't be read: the name 'ceo@there.test' holds an @"),
        (
            b'From: "b@there.test"[ <alice@here.test>\r\n',
            "From: can't be read: the name '\"b@there.test\"[' holds an @",
        ),
        (b"From: nobody:;\r\n", "From: has no address"),
        (b"From: <alice@here..test>\r\n", "From: has what is no address: 'alice@here..test'"),
        (b"From: a@here.test, b@here.test\r\n", "From: has several addresses, so Sender: must say"),
        (FROM + b"Sender: a@here.test, b@here.test\r\n", "Sender: has more than one address"),
        (FROM + b"Sender: \r\n", "Sender: can't be read: an address is missing"),
        (FROM + b"Subject: caf\xe9\r\n", "The header has characters outside ASCII"),
        ("From: bjørn@here.test\r\n".encode(), "The header has characters outside ASCII"),
    ],
)
def test_what_is_wrong_is_said_in_clear_text(header: bytes, words: str) -> None:
    with pytest.raises(Malformed) as raised:
        originators(header)
    assert str(raised.value).startswith(words)


def test_a_header_of_smtputf8_is_utf_8() -> None:
    with pytest.raises(Malformed, match="not UTF-8"):
        originators(FROM + b"Subject: caf\xe9\r\n", smtputf8=True)


def test_date_and_message_id_are_added_when_they_are_missing() -> None:
    assert completed(FROM + b"\r\n") == (
        b"Date: Tue, 24 Nov 2026 06:00:00 +0000\r\nMessage-ID: <1k0zxnv3e0000@mx.here.test>\r\n" + FROM + b"\r\n",
        "<1k0zxnv3e0000@mx.here.test>",
    )
    whole = b"Date: yesterday\r\nMessage-Id: <1@x>\r\n" + FROM + b"\r\n"
    assert completed(whole) == (whole, "<1@x>")


def test_who_got_a_blind_copy_is_told_to_nobody() -> None:
    kept = b"Date: d\r\nMessage-ID: <1@x>\r\n" + FROM
    header = b"BCC: x@there.test,\r\n y@there.test\r\n" + kept + b"bcc : z\r\nResent-Bcc: w\r\nReturn-Path: <v>\r\n\r\n"
    assert completed(header)[0] == kept + b"\r\n"


def test_long_lines_and_odd_folding_stay_as_they_are() -> None:
    header = b"Date: d\r\nMessage-ID: <1@x>\r\n" + FROM + b"Subject: " + b"x" * 5000 + b"\r\n\t\r\n y \r\n\r\n"
    assert completed(header)[0] == header


@given(st.binary(max_size=200))
def test_any_header_is_read_or_refused_in_words_of_bounded_length(header: bytes) -> None:
    try:
        read_originators(HeaderBlock(header), smtputf8=True)
    except Malformed as problem:
        assert 0 < len(str(problem)) < 300 and str(problem).isprintable()


@given(st.lists(st.sampled_from([b"Bcc: x\r\n", b" y\r\n", b"To: z\r\n", FROM, b"Date: d\r\n"]), max_size=8))
def test_completion_adds_in_front_and_removes_whole_fields_only(fields: list[bytes]) -> None:
    header = b"".join(fields) + b"\r\n"
    done, _ = completed(header)
    assert done.endswith(HeaderBlock(header).without({b"bcc"}))
