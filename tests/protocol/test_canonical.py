"""Canonical form: CRLF lines without NUL, whatever comes in, and its size known beforehand."""

from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.canonical import PLAIN, CanonicalLines, ContentForm, FormMeter

PIECES = st.lists(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b".", b"a", b"\xc3\xa9", b"x" * 70]), max_size=8).map(
        b"".join
    )
)


def converted(pieces: list[bytes]) -> bytes:
    lines = CanonicalLines()
    return b"".join([*map(lines.convert, pieces), lines.finish()])


def measured(pieces: list[bytes], head: bytes = b"") -> ContentForm:
    meter = FormMeter()
    for piece in pieces:
        meter.feed(piece)
    return meter.form(head)


@given(PIECES)
def test_any_octets_become_whole_lines_and_no_letter_is_lost(pieces: list[bytes]) -> None:
    octets, text = b"".join(pieces), converted(pieces)
    assert b"\0" not in text and text.count(b"\r") == text.count(b"\n") == text.count(b"\r\n")
    assert not text or text.endswith(b"\r\n")
    letters = octets.translate(None, b"\r\n\0")
    assert text.translate(None, b"\r\n") == letters
    assert converted([octets]) == text == converted([octets[k : k + 1] for k in range(len(octets))])
    assert converted([text]) == text


@given(PIECES, st.sampled_from([b"", b"Subject: x\r\n\r\n", b"Subject: x\r\n", b"Subject: x"]))
def test_the_size_is_known_before_anything_is_converted(pieces: list[bytes], head: bytes) -> None:
    octets = b"".join(pieces)
    form = measured(pieces, head)
    assert len(converted([head, *pieces])) == len(head + octets) + (form.growth or 0)
    assert (form.growth is None) == (converted([head, *pieces]) == head + octets)


def test_mail_as_it_should_be_has_no_form_of_its_own() -> None:
    assert measured([b"text\r\n"], b"Subject: x\r\n\r\n") is PLAIN
    assert measured(["\u00e9\r\n".encode()], b"Subject: x\r\n\r\n") is PLAIN
    assert measured([], b"Subject: x\r\n\r\n") is PLAIN
    assert measured(["Subject: \u00e9\r\n\r\n".encode()]).eight_bit_header
    assert measured([b"text\r\n"], "Subject: \u00e9\r\n\r\n".encode()).eight_bit_header
