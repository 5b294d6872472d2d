"""Messages as a person reads them: whatever is in them, something can be shown."""

import base64
import time
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client import reading
from waypost.client.reading import read_message, summarize


def composed(text: str | None = "Dear Bob,\ndo come.\n", html: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Mad Hätter <hatter@wonderland.test>"
    message["Subject"] = "Tea für zwei"
    message["Date"] = "Tue, 24 Nov 2026 12:00:00 +0000"
    if text is not None:
        message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html") if text else message.set_content(html, subtype="html")
    return message


def wire(message: EmailMessage) -> bytes:
    return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def test_a_list_shows_when_who_and_what() -> None:
    summary = summarize(wire(composed()))
    assert (summary.sender, summary.subject) == ("Mad Hätter <hatter@wonderland.test>", "Tea für zwei")
    assert summary.date is not None and summary.date.isoformat() == "2026-11-24T12:00:00+00:00"
    assert summarize(b"\r\n").date is None and summarize(b"").subject == ""


def test_the_text_and_the_names_of_the_attachments_are_read() -> None:
    message = composed("Grüße\n", "<p>Grüße</p>")
    message.add_attachment(b"12345", maintype="image", subtype="png", filename="tässe.png")
    message.add_attachment("not the text", filename="notes.txt")
    read = read_message(wire(message))
    assert read.fields == (
        ("From", "Mad Hätter <hatter@wonderland.test>"),
        ("Date", "Tue, 24 Nov 2026 12:00:00 +0000"),
        ("Subject", "Tea für zwei"),
    )
    assert read.text == "Grüße\n" and read.problem is None
    assert read.attachments == ("tässe.png (image/png, 5 octets)", "notes.txt (text/plain, 14 octets)")


def test_html_alone_is_read_as_text() -> None:
    html = "<head><title>no</title><style>p {}</style></head><p>Dear  <b>Bob</b>,</p><script>evil()</script>do<br>come"
    read = read_message(wire(composed(None, html)))
    assert read.text == "Dear Bob,\ndo\ncome\n"
    assert read.problem and "only HTML" in read.problem


@pytest.mark.parametrize(
    ("charset", "octets", "text"),
    [
        ("iso-8859-1", b"Gr\xfc\xdfe", "Grüße"),
        ("utf-8", b"Gr\xfc", "Gr\N{REPLACEMENT CHARACTER}"),
        ("x-unknown", "Grüße".encode(), "Grüße"),
        ("hex", b"62", "62"),
        ("idna", b"xn--", "xn--"),
        ("", b"a", "a"),
    ],
)
def test_any_charset_gives_some_text(charset: str, octets: bytes, text: str) -> None:
    message = b"Content-Type: text/plain; charset=" + charset.encode() + b"\r\n\r\n" + octets
    assert read_message(message).text == text


def test_reports_show_their_human_part_and_name_the_rest() -> None:
    report = (
        b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nIt came back.\r\n--b\r\n"
        b"Content-Type: message/delivery-status\r\n\r\nAction: failed\r\n\r\n--b\r\n"
        b"Content-Type: message/rfc822\r\n\r\nSubject: lost\r\n\r\nhidden\r\n--b--\r\n"
    )
    read = read_message(report)
    assert read.text == "It came back."
    assert len(read.attachments) == 2 and "message/rfc822" in read.attachments[1]


def part(kind: str, body: str, *more: str) -> str:
    """One part of a multipart, with further fields."""
    return "\r\n".join([f"Content-Type: {kind}", *more, "", body])


def mixed(*parts: str, kind: str = "multipart/mixed", boundary: str = "b") -> str:
    """A multipart, as the text of a part or of a whole message."""
    inner = "".join(f"--{boundary}\r\n{each}\r\n" for each in parts)
    return part(f"{kind}; boundary={boundary}", f"{inner}--{boundary}--\r\n")


PLAIN = part("text/plain", "plain text")
HTML = part("text/html", "<p>html text</p>")
IMAGE = part("image/png", "iVBORw==", "Content-Transfer-Encoding: base64")
LETTER = "From: eve@x.test\r\nSubject: inner\r\n\r\ninner text"


@pytest.mark.parametrize(
    ("message", "texts", "listed"),
    [
        (mixed(PLAIN, part("text/plain", "list footer")), ["plain text\nlist footer"], []),
        (
            mixed(PLAIN, IMAGE, part("text/plain", "after")),
            ["plain text\nafter"],
            ["without a name (image/png, 4 octets)"],
        ),
        (mixed(PLAIN, part("text/x-patch", "--- a\r\n+++ b")), ["plain text", "--- a\n+++ b"], []),
        (mixed(PLAIN, part("text/csv", "1,2")), ["plain text", "1,2"], []),
        (mixed(PLAIN, part("text/calendar", "BEGIN:VCALENDAR")), ["plain text", "BEGIN:VCALENDAR"], []),
        (mixed(PLAIN, part("text/rfc822-headers", "From: x")), ["plain text", "From: x"], []),
        (part("text/calendar; method=REQUEST", "BEGIN:VCALENDAR"), ["BEGIN:VCALENDAR"], []),
        (part('text/plain; name="letter.txt"', "only text"), ["only text"], []),
        (part("text/plain", "only text", "Content-Disposition: inline; filename=x"), ["only text"], []),
        (part("message/rfc822", LETTER), ["From: eve@x.test", "Subject: inner", "inner text"], []),
        (mixed(PLAIN, part("message/rfc822", LETTER)), ["plain text\n---", "Subject: inner", "inner text"], []),
        (
            mixed(PLAIN, part("message/rfc822", LETTER, "Content-Disposition: attachment; filename=a.eml")),
            ["plain text", "inner text"],
            ["a.eml (message/rfc822, 46 octets)"],
        ),
        (
            mixed(
                part("message/rfc822", base64.b64encode(LETTER.encode()).decode(), "Content-Transfer-Encoding: base64")
            ),
            ["Subject: inner", "inner text"],
            [],
        ),
        (mixed(part("text/plain", " "), HTML, kind="multipart/alternative"), ["html text"], []),
        *(  # a text that is empty when it is decoded
            (
                mixed(part("text/plain; charset=utf-8", body, *more), HTML, kind="multipart/alternative"),
                ["html text"],
                [],
            )
            for body, *more in (
                ("\u00a0", "Content-Transfer-Encoding: 8bit"),
                ("\u200b\ufeff", "Content-Transfer-Encoding: 8bit"),
                ("=20=0A=C2=A0", "Content-Transfer-Encoding: quoted-printable"),
                ("DQoNCg==", "Content-Transfer-Encoding: base64"),
            )
        ),
        (
            mixed(
                mixed(part("text/plain", "Cg==", "Content-Transfer-Encoding: base64"), IMAGE, boundary="c"),
                HTML,
                kind="multipart/alternative",
            ),
            ["html text"],
            ["without a name (image/png, 4 octets)"],
        ),
        (
            mixed(
                part("image/png", "x", "Content-ID: <1@x>"),
                part("text/html", "<p>html text</p>", "Content-ID: <2@x>"),
                kind='multipart/related; start="<2@x>"',
            ),
            ["html text"],
            ["without a name (image/png, 1 octet)"],
        ),
        (mixed(PLAIN, HTML, kind="multipart/alternative"), ["plain text"], []),
        (
            mixed(PLAIN, HTML, part("text/calendar", "BEGIN:VCALENDAR"), kind="multipart/alternative"),
            ["plain text"],
            ["without a name (text/calendar, 15 octets)"],
        ),
        (
            mixed(
                part("text/plain", ""),
                mixed(HTML, IMAGE, kind="multipart/related", boundary="c"),
                kind="multipart/alternative",
            ),
            ["html text"],
            ["without a name (image/png, 4 octets)"],
        ),
        (
            mixed(PLAIN, mixed(HTML, IMAGE, kind="multipart/related", boundary="c"), kind="multipart/alternative"),
            ["plain text"],
            ["without a name (image/png, 4 octets)"],
        ),
        (mixed(HTML, part("text/plain", "list footer")), ["html text\nlist footer"], []),
        (
            mixed(PLAIN, part("text/plain", "secret", "Content-Disposition: attachment")),
            ["plain text"],
            ["without a name (text/plain, 6 octets)"],
        ),
        (
            mixed(PLAIN, part("text/plain", "x", "Content-Disposition: from-the-future")),
            ["plain text"],
            ["without a name (text/plain, 1 octet)"],
        ),
        (mixed(part("message/rfc822", LETTER), kind="multipart/digest"), ["Subject: inner", "inner text"], []),
        (part("multipart/mixed; boundary=nowhere", "text without parts"), ["text without parts"], []),
        (
            mixed(PLAIN, part("application/pgp-signature", "sig"), kind="multipart/signed"),
            ["plain text"],
            ["without a name (application/pgp-signature, 3 octets)"],
        ),
        ("Hello Bob,\r\n\r\nhow are you?", ["Hello Bob,\n\nhow are you?"], []),
        ("just words", ["just words"], []),
        ("Subject: x\r\nno blank line", ["no blank line"], []),
        ("Subject: only a header", [""], []),
        ("\r\nno header", ["no header"], []),
        (
            part("text/html", "<meta charset=koi8-r><p>\u041f\u0440\u0438\u0432\u0435\u0442"),
            ["\u041f\u0440\u0438\u0432\u0435\u0442"],
            [],
        ),
    ],
)
def test_inline_text_is_shown_in_order_and_what_is_not_shown_is_listed(
    message: str, texts: list[str], listed: list[str]
) -> None:
    read = read_message(message.encode("koi8-r" if "koi8-r" in message else "utf-8"))
    position = 0
    for text in texts:
        found = read.text.find(text, position)
        assert found >= 0, (text, read.text)
        position = found + len(text)
    assert list(read.attachments) == listed
    assert "secret" not in read.text


def test_latin_1_without_a_charset_is_read_in_the_body_as_in_the_subject() -> None:
    read = read_message(b"Subject: caf\xe9\r\n\r\nGr\xfc\xdfe \x93x\x94")
    assert read.fields == (("Subject", "caf\u00e9"),) and read.text == "Gr\u00fc\u00dfe \u201cx\u201d"
    assert read_message("\r\nGr\u00fc\u00dfe".encode()).text == "Gr\u00fc\u00dfe"


def test_a_field_that_is_folded_with_a_tab_has_a_space() -> None:
    assert read_message(b"Subject: one\r\n\ttwo\r\n\r\n").fields == (("Subject", "one two"),)
    assert summarize(b"Subject: one\r\n\ttwo\r\n").subject == "one two"


def test_a_message_that_breaks_the_parser_is_shown_as_it_is() -> None:
    depth = 3000
    opening = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level) for level in range(depth)
    )
    began = time.process_time()
    read = read_message(b"Subject: bomb\r\n" + opening + b"\r\ntext")
    assert read.fields == (("Subject", "bomb"),) and read.text
    assert time.process_time() - began < 20, "it ends"


def test_of_a_very_large_message_the_beginning_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_OCTETS", 100)
    read = read_message(b"Subject: large\r\n\r\n" + b"x" * 1000)
    assert read.problem == "the message is longer than 100 octets" and len(read.text) < 100


@given(
    st.lists(
        st.sampled_from(
            [
                *[
                    b"Content-Type: ",
                    b"multipart/mixed; boundary=b",
                    b"text/plain; charset=",
                    b"text/html",
                    b"\r\n\r\n",
                ],
                *[
                    b"--b\r\n",
                    b"--b--\r\n",
                    b"Content-Transfer-Encoding: ",
                    b"base64\r\n",
                    b"uuencode\r\n",
                    b"name*0*=",
                ],
                *[b"Content-Disposition: attachment; filename*=", b"utf-8''%ff", b"message/rfc822\r\n", b"<p>&#1;<"],
                *[b"=?utf-8?b?/w==?=", b"\xff\0", b"begin 644 x\r\n", b";", b'"', b"=", b"<![CDATA[", b"<!-"],
            ]
        )
        | st.binary(max_size=6),
        max_size=40,
    )
)
def test_no_message_crashes_the_reader(pieces: list[bytes]) -> None:
    read = read_message(b"".join(pieces))
    assert isinstance(read.text, str)
    summarize(b"".join(pieces))
