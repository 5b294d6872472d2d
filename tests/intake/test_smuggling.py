"""SMTP smuggling, from the octets of a client to what lies in mailboxes: one message or none, never two.

The forms of CVE-2023-51764 and its kin: whatever looks like an end of DATA to some server, and is none.
"""

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.intake.conversation import CLIENT, TLS, Conversation, House, plain

from waypost.config.settings import ListenerProtocol
from waypost.journal import fields
from waypost.protocol.lines import with_whole_ends

ENVELOPE = ("MAIL FROM:<x@there.test>", "RCPT TO:<bob@here.test>", "DATA")
SMUGGLED = b"MAIL FROM:<ceo@here.test>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\nSubject: smuggled\r\n\r\npay\r\n.\r\n"
BEFORE = b"Subject: x\r\n\r\nhello"
ENDS = [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r.\r\n", b"\n\n.\r\n"]
ENDS += [b"\r\r\n.\r\r\n", b"\n.\n\n", b"\n\r\n.\n", b"\n..\n"]
MENDED = [end for end in ENDS if with_whole_ends(end) is not None]
"""Those that hold nothing worse than a bare LF, which becomes a CRLF where no server's end of DATA is in question."""
REFUSED = [end for end in ENDS if end not in MENDED]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_no_other_end_of_data_lets_a_second_message_in(house: House, end: bytes, size: int) -> None:
    talk = await house.reception()
    await talk.say(*ENVELOPE)
    stream = BEFORE + end + SMUGGLED
    for start in range(0, len(stream), size):
        await talk.send(stream[start : start + size])
    assert await house.inbox("alice@here.test") == [], "what was smuggled never arrives"
    assert await house.inbox("bob@here.test") == [], "and the message around it is refused"


@pytest.mark.parametrize("end", ENDS)
async def test_what_bdat_counts_is_content_whatever_it_looks_like(house: House, end: bytes) -> None:
    talk = await house.reception()
    content = BEFORE + end + SMUGGLED
    await talk.say(ENVELOPE[0] + " BODY=BINARYMIME", ENVELOPE[1])
    await talk.send(b"BDAT %d LAST\r\n" % len(content) + content)
    assert await house.inbox("alice@here.test") == []
    assert (await house.inbox("bob@here.test"))[0].endswith(content)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("size", [1, 5, 100_000])
@pytest.mark.parametrize("way", ["reception", "lmtp"])
async def test_text_that_bdat_counts_has_whole_line_ends_when_it_is_stored(
    house: House, way: str, end: bytes, size: int
) -> None:
    """RFC 3030: nothing in it can be an end, so a bare LF is mended, whatever chunks it falls into."""
    talk = await getattr(house, way)()
    content = BEFORE + end + SMUGGLED
    await talk.say(*ENVELOPE[:2])
    written = ""
    for start in range(0, len(content), size):
        piece = content[start : start + size]
        written = await talk.send(b"BDAT %d\r\n" % len(piece) + piece)
        if not written.startswith("250"):
            break
    else:
        written = await talk.send(b"BDAT 0 LAST\r\n")
    assert await house.inbox("alice@here.test") == []
    if end in REFUSED:
        assert written.startswith("550 5.6.11") and await house.inbox("bob@here.test") == []
        return
    (message,) = await house.inbox("bob@here.test")
    assert written.startswith("250 2.0.0 Ok") and message.endswith(with_whole_ends(content) or b"never")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("size", [1, 2, 5, 100_000])
async def test_what_a_user_submits_has_whole_line_ends_and_is_one_message(house: House, end: bytes, size: int) -> None:
    """Behind a login a bare LF is a device's line end, and never a part of the end of DATA."""
    talk = await house.submission("alice@here.test")
    await talk.say("MAIL FROM:<alice@here.test>", *ENVELOPE[1:])
    stream = b"From: alice@here.test\n" + BEFORE + end + SMUGGLED[: -len(b".\r\n")] + b"\r\n.\r\n"
    written = ""
    for start in range(0, len(stream), size):
        written += await talk.send(stream[start : start + size])
    assert await house.inbox("alice@here.test") == [], "what was smuggled never arrives"
    if end in REFUSED:
        assert written.startswith("550 5.6.11") and await house.inbox("bob@here.test") == []
        return
    (message,) = await house.inbox("bob@here.test")
    assert written.startswith("250 2.0.0 Ok") and b"\r\nSubject: x\r\n\r\nhello\r\n" in message
    text = message.split(b"\r\n\r\n", 1)[1]
    unstuffed = end.replace(b"\r\n.", b"\r\n").replace(b"\n..", b"\n.")  # a dot behind a CRLF is always the wire's
    assert text == with_whole_ends(b"hello" + unstuffed + SMUGGLED[: -len(b".\r\n")] + b"\r\n")


@pytest.mark.parametrize("size", [1, 3, 100_000])
@pytest.mark.parametrize(
    ("wire", "stored"),
    [
        (b"one\ntwo\n", b"one\r\ntwo\r\n"),
        (b"one\n\n\ntwo\r\nthree", b"one\r\n\r\n\r\ntwo\r\nthree\r\n"),
        (b".one\n.two\n..three\r\n..four", b".one\r\n.two\r\n.three\r\n.four\r\n"),
        (b"\n", b"\r\n\r\n"),
        (b"\n.\n", b"\r\n.\r\n\r\n"),
        (b"x" * 70_000 + b"\n" + b"y\n" * 40_000, b"x" * 70_000 + b"\r\n" + b"y\r\n" * 40_000),
    ],
)
async def test_a_devices_lines_are_stored_as_lines(house: House, wire: bytes, stored: bytes, size: int) -> None:
    if size == 1 and len(wire) > 1000:
        size = 997
    talk = await house.submission("alice@here.test")
    await talk.say("MAIL FROM:<alice@here.test>", *ENVELOPE[1:])
    stream = b"From: alice@here.test\nSubject: scan\n\n" + wire
    stream += b".\r\n" if stream.endswith(b"\r\n") else b"\r\n.\r\n"
    for start in range(0, len(stream), size):
        await talk.send(stream[start : start + size])
    (message,) = await house.inbox("bob@here.test")
    assert message.split(b"\r\n\r\n", 1)[1] in (stored, stored + b"\r\n")


async def test_what_is_counted_is_what_is_stored(house: House) -> None:
    """The limit of size, and the size that the journal tells, are those of the mended message."""
    limits = replace(house.settings.limits, message_size=1000)
    house.settings = replace(house.settings, limits=limits)
    header = b"From: alice@here.test\n\n"
    for count, code in ((470, "250 2.0.0"), (490, "552 5.3.4")):
        talk = await house.submission("alice@here.test")
        content = header + b"\n" * count
        assert len(content) < 1000
        await talk.say("MAIL FROM:<alice@here.test>", ENVELOPE[1])
        reply = await talk.send(b"BDAT %d LAST\r\n" % len(content) + content)
        assert reply.startswith(code)
        if code.startswith("250"):
            submitted = (await house.events(reply))[0]
            assert fields(submitted)["size"] == len(content) + content.count(b"\n")


@pytest.mark.parametrize("field", [b"From: bob@here.test", b"Sender: bob@here.test", b"To: x@y.test\nTo: z@y.test"])
@pytest.mark.parametrize("how", ["DATA", "BDAT"])
async def test_nobody_hides_a_second_author_behind_a_bare_lf(house: House, field: bytes, how: str) -> None:
    talk = await house.submission("alice@here.test")
    await talk.say("MAIL FROM:<alice@here.test>", ENVELOPE[1])
    content = b"From: alice@here.test\n" + field + b"\n\nhello\r\n"
    if how == "DATA":
        await talk.say("DATA")
        reply = await talk.send(content + b".\r\n")
    else:
        reply = await talk.send(b"BDAT %d LAST\r\n" % len(content) + content)
    assert reply.startswith("55") and await house.inbox("bob@here.test") == []


@pytest.mark.parametrize("lines", [b"EHLO x\nQUIT\n", b"NOOP\n", b"\n", b"EHLO x\n\nMAIL FROM:<x@there.test>\n"])
async def test_lines_that_end_with_lf_are_answered_and_never_run(house: House, lines: bytes) -> None:
    """A health check by printf and nc, or a person at netcat."""
    talk = await house.reception()
    written = await talk.send(lines)
    assert written.count("554 5.5.2 Lines end with CRLF") == lines.count(b"\n") == written.count("\r\n")
    assert talk.next.name == "READ" and (await talk.say("RCPT TO:<bob@here.test>")).startswith("503")
    assert (await talk.say("NOOP")).startswith("250")


async def test_lines_that_end_with_lf_are_errors_like_others(house: House) -> None:
    talk = await house.reception()
    written = await talk.send(b"NOOP\n" * 100)
    assert written.count("554 5.5.2") == house.settings.limits.errors + 1 and "421 4.7.0" in written


@pytest.mark.parametrize("behind", [b"", b"NOOP\n", b"NOOP\r\n", b"MAIL FROM:<bob@here.test>\r\n", b"\n", b"\0\n"])
async def test_an_answer_to_a_challenge_may_end_with_lf_alone_when_nothing_follows_it(
    house: House, behind: bytes
) -> None:
    talk = Conversation(house.session(ListenerProtocol.SUBMISSIONS), structs.replace(CLIENT, tls=TLS))
    await talk.open()
    await talk.say("EHLO x", "AUTH PLAIN")
    said = await talk.send(plain("alice@here.test").encode() + b"\n" + behind)
    if not behind:
        assert said.startswith("235") and (await talk.say("NOOP")).startswith("250")
        return
    assert said.startswith("554 5.5.2") and talk.next.name == "CLOSE", "what follows may be a command that was smuggled"


async def test_a_bare_line_end_in_a_command_ends_the_session(house: House) -> None:
    for line in (
        b"NOOP\nMAIL FROM:<x@there.test>\r\n",
        b"NOOP\nMAIL",
        b"NOOP\n\r",
        b"NO\0OP\r\n",
        b"MAIL FROM:<x@there.test>\rRCPT TO:<bob@here.test>\r\n",
    ):
        talk = await house.reception()
        assert (await talk.send(line)).startswith("554 5.5.2") and talk.next.name == "CLOSE"


PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\0", b"x", b"\r\n", b"\r\n.\r\n", SMUGGLED, b"DATA\r\n", b"Subject: y\r\n"]),
    max_size=12,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES, cuts=st.lists(st.integers(0, 400), max_size=8))
async def test_each_message_in_a_mailbox_is_clean_and_was_acknowledged(
    house: House, pieces: list[bytes], cuts: list[int]
) -> None:
    before = len(await delivered(house))
    talk = await house.reception()
    await talk.say(*ENVELOPE)
    stream = b"".join(pieces) + b"\r\n.\r\n"
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    written = ""
    for start, end in itertools.pairwise(edges):
        written += await talk.send(stream[start:end])
    await talk.say("NOOP")
    stored = (await delivered(house))[before:]
    assert len(stored) == written.count("queued as")
    for message in stored:
        assert message.count(b"\r\n") == message.count(b"\n") == message.count(b"\r") and b"\0" not in message


async def delivered(house: House) -> list[bytes]:
    """Return all messages in mailboxes, in the order of their arrival."""
    return sorted(await house.inbox("bob@here.test") + await house.inbox("alice@here.test"), key=_trace)


def _trace(message: bytes) -> bytes:
    return message.partition(b"\tid ")[2][:13]
