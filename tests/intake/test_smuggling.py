"""SMTP smuggling, from the octets of a client to what lies in mailboxes: one message or none, never two.

The forms of CVE-2023-51764 and its kin: whatever looks like an end of DATA to some server, and is none.
"""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.intake.conversation import House

ENVELOPE = ("MAIL FROM:<x@there.test>", "RCPT TO:<bob@here.test>", "DATA")
SMUGGLED = b"MAIL FROM:<ceo@here.test>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\nSubject: smuggled\r\n\r\npay\r\n.\r\n"
BEFORE = b"Subject: x\r\n\r\nhello"
ENDS = [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r.\r\n", b"\n\n.\r\n"]
ENDS += [b"\r\r\n.\r\r\n"]


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
    await talk.say(*ENVELOPE[:2])
    assert (await talk.send(b"BDAT %d LAST\r\n" % len(content) + content)).startswith("550 5.6.11")


async def test_a_bare_line_end_in_a_command_ends_the_session(house: House) -> None:
    for line in (
        b"NOOP\nMAIL FROM:<x@there.test>\r\n",
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
