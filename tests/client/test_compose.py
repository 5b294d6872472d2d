"""What is composed is read again by a parser that is not ours, and says what was meant."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client.compose import Attachment, Composed, Draft, compose, parse_field, read_attachment
from waypost.client.errors import ClientError
from waypost.client.people import Person, parse_people
from waypost.message.address import Address
from waypost.message.envelope import BodyType
from waypost.protocol.smtp.outgoing import scan

ALICE = Person("Alice", Address("alice", "wonderland.test"))
BOB = parse_people(["Bob <bob@builder.test>"])
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=400)
FILE_NAME = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=90)
    .map(str.strip)
    .filter(lambda name: name and "=?" not in name)
)


def composed(**draft: Any) -> Composed:
    given: dict[str, Any] = {"sender": ALICE, "to": BOB} | draft
    made = compose(Draft(**given), now=NOW, unique=lambda: "unique")
    facts = scan(made.content)
    assert facts.line_clean and made.content.endswith(b"\r\n")
    assert max(map(len, made.content.split(b"\r\n"))) <= 998
    return made


def read(**draft: Any) -> EmailMessage:
    return message_from_bytes(composed(**draft).content, policy=policy.default)


def test_a_letter_is_what_rfc_5322_says() -> None:
    assert composed(subject="Tea at five?", text="Dear Bob,\n\ndo come.").content.decode() == (
        "Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
        "From: Alice <alice@wonderland.test>\r\n"
        "To: Bob <bob@builder.test>\r\n"
        "Subject: Tea at five?\r\n"
        "Message-ID: <unique@wonderland.test>\r\n"
        'Content-Type: text/plain; charset="utf-8"\r\n'
        "Content-Transfer-Encoding: 7bit\r\n"
        "MIME-Version: 1.0\r\n"
        "\r\n"
        "Dear Bob,\r\n\r\ndo come.\r\n"
    )


@given(ANY_TEXT)
def test_any_text_arrives_as_it_was_written(text: str) -> None:
    content = read(text=text).get_content().replace("\r\n", "\n")
    expected = text if text.endswith("\n") or not text else text + "\n"
    assert content.removesuffix("\n") == expected.removesuffix("\n")


@given(ANY_TEXT, st.binary(max_size=300), FILE_NAME)
def test_attachments_arrive_octet_by_octet_with_their_names(text: str, data: bytes, name: str) -> None:
    message = read(text=text, attachments=(Attachment(name, "image/png", data),))
    [part] = message.iter_attachments()
    assert part.get_content() == data
    assert part.get_content_type() == "image/png"
    assert part["content-disposition"].params["filename"] == name  # `get_filename` takes quotes away twice


def test_html_stands_beside_the_text() -> None:
    message = read(text="Grüße", html="<p>Grüße</p>", attachments=(Attachment("a.txt", "text/plain", b"a\nb"),))
    assert message.get_content_type() == "multipart/mixed"
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None and plain.get_content() == "Grüße\r\n"
    assert html is not None and html.get_content() == "<p>Grüße</p>\r\n"
    [attachment] = message.iter_attachments()
    assert attachment.get_payload(decode=True) == b"a\nb"
    assert message.is_multipart() and next(iter(message.iter_parts())).get_content_type() == "multipart/alternative"


def test_html_may_stand_alone() -> None:
    assert read(html="<p>hi</p>").get_content_type() == "text/html"


def test_bcc_stands_in_the_envelope_only() -> None:
    made = composed(to=(), cc=parse_people(["carol@x.test"]), bcc=parse_people(["Eve <eve@x.test>", "CAROL@x.test"]))
    assert [str(recipient.address) for recipient in made.envelope.recipients] == ["CAROL@x.test", "eve@x.test"]
    assert b"eve" not in made.content and b"bcc" not in made.content.lower() and b"\r\nTo:" not in made.content
    assert str(made.envelope.reverse_path) == "alice@wonderland.test"


def test_only_an_address_outside_ascii_needs_smtputf8() -> None:
    umlaut = "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher"
    plain = composed(to=parse_people([f"a@{umlaut}.test"]), subject=umlaut, text=umlaut)
    assert plain.content.isascii() and not plain.envelope.smtputf8 and plain.envelope.body is BodyType.SEVEN_BIT
    eai = composed(to=parse_people([f"{umlaut}@x.test"]))
    assert eai.envelope.smtputf8 and eai.envelope.body is BodyType.EIGHT_BIT
    assert f"To: {umlaut}@x.test\r\n".encode() in eai.content


def test_further_fields_are_added_and_may_replace_date_and_message_id() -> None:
    message = read(
        fields=(("Reply-To", "Süß <a@x.test>"), ("X-Tea", "grün"), ("Message-ID", "<mine@x>"), ("date", "now"))
    )
    assert message["Reply-To"].addresses[0].display_name == "Süß"
    assert message["X-Tea"] == "grün"
    assert message.get_all("Message-ID") == ["<mine@x>"]
    assert len(message.get_all("Date", [])) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("X", "is not a header field"),
        ("X Y: z", "is not a header field"),
        (": z", "is not a header field"),
        ("Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n: z", "is not a header field"),
        ("bcc: a@x.test", "use --bcc"),
        ("Subject: x", "use --subject"),
        ("Content-Type: text/html", "can't be set by hand"),
        ("Received: x", "can't be set by hand"),
    ],
)
def test_fields_that_may_not_be_given_are_refused(line: str, words: str) -> None:
    with pytest.raises(ClientError, match=words):
        parse_field(line)


@pytest.mark.parametrize(
    "draft",
    [
        {"subject": "a\r\nBcc: eve@x.test"},
        {"fields": (("X-Tea", "a\nb"),)},
        {"fields": (("Reply-To", "nobody"),)},
        {"to": ()},
    ],
)
def test_what_can_not_be_sent_is_refused(draft: dict[str, Any]) -> None:
    with pytest.raises(ClientError):
        composed(**draft)


def test_line_ends_of_every_kind_become_one() -> None:
    assert composed(text="a\r\nb\rc\nd").content.endswith(b"\r\n\r\na\r\nb\r\nc\r\nd\r\n")


def test_a_nul_never_goes_out() -> None:
    assert read(text="a\0b").get_content() == "a\N{REPLACEMENT CHARACTER}b\r\n"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "image/png"),
        ("a.txt", "text/plain"),
        ("a.tar.gz", "application/octet-stream"),
        ("a.eml", "application/octet-stream"),
        ("unknown", "application/octet-stream"),
    ],
)
def test_the_type_of_a_file_is_guessed_by_its_name(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\0\r")
    assert read_attachment(path) == Attachment(name, kind, b"\0\r")


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"none\.txt: No such file"):
        read_attachment(tmp_path / "none.txt")


def test_a_file_name_steers_no_header(tmp_path: Path) -> None:
    path = tmp_path / 'a\r\nBcc: eve@x.test"\x1b.png'
    path.write_bytes(b"x")
    made = composed(attachments=(read_attachment(path),))
    assert b"\r\nBcc" not in made.content and b"\x1b" not in made.content
