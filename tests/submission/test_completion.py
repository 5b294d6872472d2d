"""The header of a submitted message: what must be right, what is added, what is taken away (RFC 6409 8)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.intake.conversation import NOW

from waypost.message.address import Address
from waypost.message.headers import HeaderBlock
from waypost.message.trace import TraceId
from waypost.submission.completion import MalformedHeader, complete, prepare, read_originators

ALICE = Address("alice", "here.test")
FROM = b"From: alice@here.test\r\n"
TRACE = TraceId(1838592000000000000)


def originators(header: bytes, *, smtputf8: bool = False) -> list[str]:
    headers = prepare(HeaderBlock(header + b"\r\n"), sender=ALICE, smtputf8=smtputf8, names=("mx.here.test",))
    return [str(address) for address in read_originators(headers)]


def completed(header: bytes) -> tuple[bytes, str | None]:
    headers = prepare(HeaderBlock(header), sender=ALICE, smtputf8=False, names=("mx.here.test", "here.test"))
    return complete(headers, trace=TRACE, hostname="mx.here.test", now=NOW)


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
        (FROM * 2, "There is more than one From: field"),
        (FROM + b"Date: x\r\nDATE: y\r\n", "There is more than one Date: field"),
        (FROM + b"Subject: x\r\nSubject : y\r\n", "There is more than one Subject: field"),
        (FROM + b"To: x\r\nTo: y\r\n", "There is more than one To: field"),
        (FROM + b"Message-ID: <x>\r\nmessage-id: <y>\r\n", "There is more than one Message-ID: field"),
        (FROM + b"Hello\r\n", "This line of the header is not a field: 'Hello'"),
        (b" folded\r\n" + FROM, "This line of the header is not a field: 'folded'"),
        (b"From: Alice\r\n", "From: can't be read: 'Alice' has no address"),
        (b"From: <>\r\n", "From: can't be read: an address is missing"),
        (b"From: ()\r\n", "From: can't be read: an address is missing"),
        (b"From: ceo@there.test: alice@here.test;\r\n", "From: can't be read: the name 'ceo@there.test' holds an @"),
        (
            b'From: "b@there.test"[ <alice@here.test>\r\n',
            "From: can't be read: the name '\"b@there.test\"[' holds an @",
        ),
        (b"From: nobody:;\r\n", "From: names nobody (an empty group), so Sender: must say who sends (RFC 6854)"),
        (b"From: nobody:;\r\nSender: nobody:;\r\n", "Sender: has no address"),
        (b'From: "ceo@there.test":;\r\nSender: alice@here.test\r\n', "From: can't be read: the name of an empty group"),
        (b"From: =?utf-8?q?ceo=40x?=:;\r\nSender: a@b.test\r\n", "From: can't be read: the name of an empty group"),
        (b" \r\n" + FROM, "This line of the header is not a field: it holds only white space"),
        (b"From: <alice@here..test>\r\n", "From: 'alice@here..test' is not an address"),
        (b"From: a@here.test, b@here.test\r\n", "From: has several addresses, so Sender: must say"),
        (FROM + b"Sender: a@here.test, b@here.test\r\n", "Sender: has more than one address"),
        (FROM + b"Sender: \r\n", "Sender: can't be read: an address is missing"),
        (FROM + b"Subject: caf\xe9\r\n", "Subject: is not UTF-8: write the message in UTF-8 (iconv"),
        (FROM + "Subject: 件名\r\n".encode("shift_jis"), "Subject: is not UTF-8"),
        ("From: bjørn@here.test\r\n".encode(), "From: the address bjørn@here.test has characters outside ASCII: the"),
    ],
)
def test_what_is_wrong_is_said_in_clear_text(header: bytes, words: str) -> None:
    with pytest.raises(MalformedHeader) as raised:
        originators(header)
    assert str(raised.value).startswith(words)


def test_a_header_of_smtputf8_is_utf_8() -> None:
    with pytest.raises(MalformedHeader, match="not UTF-8"):
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
    for smtputf8 in (False, True):
        try:
            originators(header, smtputf8=smtputf8)
        except MalformedHeader as problem:
            assert 0 < len(str(problem)) < 300 and str(problem).isprintable()


@given(st.lists(st.sampled_from([b"Bcc: x\r\n", b"Bcc: y\r\n z\r\n", b"X: z\r\n", b"received-spf: y\r\n"]), max_size=8))
def test_completion_adds_in_front_and_removes_whole_fields_only(fields: list[bytes]) -> None:
    header = FROM + b"".join(fields) + b"\r\n"
    done, _ = completed(header)
    assert done.endswith(HeaderBlock(header).without({b"bcc", b"received-spf"}))


@pytest.mark.parametrize(
    "header", [b"Subject: x\r\n", b"", b"From:\r\nSubject: x\r\n", b"From: \r\n \r\nSubject: x\r\n"]
)
def test_a_message_without_an_author_is_from_the_sender_of_the_envelope(header: bytes) -> None:
    assert originators(header) == ["alice@here.test"]
    done, _ = completed(header + b"\r\n")
    rest = b"Subject: x\r\n" if b"Subject" in header else b""
    assert done.endswith(b"@mx.here.test>\r\nFrom: alice@here.test\r\n" + rest + b"\r\n")


@pytest.mark.parametrize(
    ("sender", "more", "words"),
    [
        (None, b"", "There is no From: field, and MAIL FROM:<> names nobody for it"),
        (ALICE, b"DKIM-Signature: v=1\r\n", "There is no From: field, and nothing is added to a signed message"),
    ],
)
def test_an_author_who_is_not_known_is_not_made_up(sender: Address | None, more: bytes, words: str) -> None:
    with pytest.raises(MalformedHeader, match=re.escape(words)):
        prepare(HeaderBlock(more + b"Subject: x\r\n\r\n"), sender=sender, smtputf8=False, names=())


def test_the_author_that_is_added_is_written_as_an_address_must_be() -> None:
    for sender, written in (
        (Address("a b", "here.test"), b'From: "a b"@here.test\r\n'),
        (Address("alice", "bücher.test"), b"From: alice@xn--bcher-kva.test\r\n"),
        (Address("bjørn", "bücher.test"), "From: bjørn@xn--bcher-kva.test\r\n".encode()),
    ):
        header = prepare(HeaderBlock(b"\r\n"), sender=sender, smtputf8=not sender.local.isascii(), names=())
        assert header.data == written + b"\r\n"


@pytest.mark.parametrize(
    ("field", "stays"),
    [
        (b"Authentication-Results: mx.here.test; spf=pass", False),
        (b"AUTHENTICATION-RESULTS : MX.Here.Test. ; dkim=pass", False),
        (b"Authentication-Results:\r\n mx.here.test 1; none", False),
        (b'Authentication-Results: (x (y)) "mx.here\\.test"; dkim=pass', False),
        (b"Authentication-Results: (x) (y) here.test;dkim=pass", False),
        (b"Authentication-Results: other.here.test; dkim=pass", False),
        (b"Authentication-Results: ; dkim=pass", False),
        (b"Authentication-Results:", False),
        (b'Authentication-Results: "open; dkim=pass', False),
        (b"Authentication-Results: mx.there.test; mx.here.test; dkim=pass", True),
        (b"Authentication-Results: nothere.test; dkim=pass", True),
        (b"Received-SPF: pass (mx.there.test: domain of ceo@there.test)", False),
        (b"received-spf:\r\n\tpass", False),
        (b"X-Received-SPF: pass", True),
    ],
)
def test_nobody_submits_results_of_our_own_checks(field: bytes, stays: bool) -> None:
    kept = b"Date: d\r\nMessage-ID: <1@x>\r\n" + FROM
    done, _ = completed(field + b"\r\n" + kept + field + b"\r\n\r\n")
    assert done == (field + b"\r\n" + kept + field + b"\r\n\r\n" if stays else kept + b"\r\n")


def test_whoever_sends_a_message_again_is_an_originator_too() -> None:
    header = FROM + b"Resent-From: B <b@here.test>\r\nResent-Sender: c@here.test\r\nresent-from: d@here.test\r\n"
    assert originators(header) == [f"{name}@here.test" for name in ("alice", "b", "d", "c")]
    with pytest.raises(MalformedHeader, match="Resent-From: can't be read"):
        originators(FROM + b"Resent-From: b\r\n")


def test_the_number_of_originators_is_bounded() -> None:
    own = b", ".join(b"a%d@here.test" % number for number in range(100))
    assert len(originators(b"From: " + own + b"\r\nSender: a1@here.test\r\n")) == 101
    with pytest.raises(MalformedHeader, match="From: can't be read: it has more than 100 addresses"):
        originators(b"From: " + own + b", a@here.test\r\nSender: a@here.test\r\n")
    many = b"From: " + b", ".join([own] * 130) + b"\r\nSender: a1@here.test\r\n"
    with pytest.raises(MalformedHeader, match="The fields that say who sends are longer than 16384 octets"):
        originators(many)
    with pytest.raises(MalformedHeader, match="The fields that say who sends are longer"):
        originators(FROM + b"Resent-From: a@here.test\r\n" * 2000)
