"""A signed part, wherever it stands in a message, arrives as it was signed, whatever is mended around it.

A signature of RFC 1847 covers one part, its own header included, in the canonical form: lines that end with CRLF. It
does not cover the header of the message, so a submission may be mended there (RFC 6409 8).
"""

import re

import pytest
from tests.intake.conversation import Conversation, House

ALICE, BOB = "alice@here.test", "bob@here.test"
PART = (
    'Content-Type: text/plain; charset=utf-8; name="größe.txt"\r\n'
    "Subject: Prüfung\r\n"
    "From: Smith, Boss <boss @ there.test>\r\n"
    "\r\n"
    "Grüße, \r\n.\r\n..\r\n.dot\r\nFrom here\r\n-- \r\n\t\r\n"
).encode()
SIGNED = (
    b"Content-Type: multipart/signed; boundary=s; micalg=sha-256;\r\n protocol=application/pgp-signature\r\n\r\n"
    b"--s\r\n" + PART + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\nsignature\r\n--s--\r\n"
)
FORWARDED = (
    b"Content-Type: message/rfc822\r\n\r\nDKIM-Signature: v=1; h=subject\r\nFrom: b@there.test\r\nSubject: "
    + "Prüfung".encode()
    + b"\r\n"
    + SIGNED
)
NESTS = {
    "in a multipart": b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + SIGNED + b"\r\n--o--\r\n",
    "in a multipart within another": (
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/mixed; boundary=p\r\n\r\n"
        b"--p\r\n" + SIGNED + b"\r\n--p--\r\n\r\n--o--\r\n"
    ),
    "in a message that is forwarded": (
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + FORWARDED + b"\r\n--o--\r\n"
    ),
}
HEADER = f"From: Smith, Alice <{ALICE}>\r\nSubject: Prüfung\r\n".encode()


async def bring(talk: Conversation, content: bytes, way: str) -> str:
    """Send a message by DATA or BDAT; a device ends its lines with LF, and doubles dots behind it."""
    sender = ALICE if "submission" in way else "x@there.test"
    await talk.say(f"MAIL FROM:<{sender}> BODY=8BITMIME", f"RCPT TO:<{BOB}>")
    octets = content.replace(b"\r\n", b"\n") if "LF" in way else content
    if "BDAT" in way:
        replies = [
            await talk.send(b"BDAT %d\r\n" % len(octets[start : start + 7]) + octets[start : start + 7])
            for start in range(0, len(octets), 7)
        ]
        assert all(reply.startswith("250") for reply in replies)
        return await talk.send(b"BDAT 0 LAST\r\n")
    await talk.say("DATA")
    stuffed = octets.replace(b"\n.", b"\n..")
    return await talk.send(stuffed + (b"\r\n.\r\n" if "LF" in way else b".\r\n"))


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("way", ["submission DATA", "submission DATA LF", "submission BDAT LF", "BDAT", "BDAT LF"])
async def test_a_signed_part_arrives_as_it_was_signed_and_the_header_around_it_is_mended(
    house: House, way: str, nest: str
) -> None:
    talk = await (house.submission(ALICE) if "submission" in way else house.reception())
    header = HEADER if "submission" in way else HEADER.replace(b"Smith, Alice", b"Alice")
    assert (await bring(talk, header + NESTS[nest], way)).startswith("250 2.0.0")
    (message,) = await house.inbox(BOB)
    assert NESTS[nest] in message, "not an octet of the body has changed, but for line ends that are CRLF again"
    if "submission" in way:
        around = message[: message.index(NESTS[nest])]
        assert around.isascii() and b'\r\nFrom: "Smith, Alice" <alice@here.test>\r\n' in around
        assert b"\r\nSubject: =?utf-8?q?Pr=C3=BCfung?=\r\n" in around


@pytest.mark.parametrize("way", ["submission DATA", "submission DATA LF", "submission BDAT LF"])
async def test_a_message_that_is_signed_as_a_whole_is_taken_as_it_is_or_refused(house: House, way: str) -> None:
    talk = await house.submission(ALICE)
    refused = await bring(talk, HEADER + SIGNED, way)
    assert re.match(
        r"554 5\.6\.0 From: .* nothing is mended in a signed message \(Content-Type: multipart/signed\)", refused
    )
    right = f'From: "Smith, Alice" <{ALICE}>\r\nSubject: =?utf-8?q?Pr=C3=BCfung?=\r\n'.encode()
    assert (await bring(talk, right + SIGNED, way)).startswith("250 2.0.0")
    (message,) = await house.inbox(BOB)
    assert right + SIGNED in message
