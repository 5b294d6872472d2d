"""SMTP smuggling, from one socket to the next: what a client says is one message or none, and the octets that leave
can be read as one message only (CVE-2023-51764 and its kin)."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.intake.test_smuggling import BEFORE, ENDS, MENDED, REFUSED
from tests.security.live import Live, Recorder, host

from waypost.config.settings import ListenerProtocol
from waypost.protocol.lines import is_clean

FROM = b"From: alice@here.test\r\n"
SMUGGLED = b"MAIL FROM:<alice@here.test>\r\nRCPT TO:<bob@there.test>\r\nDATA\r\nSubject: smuggled\r\n\r\npay\r\n.\r\n"


@pytest.fixture
async def there() -> AsyncIterator[Recorder]:
    """The next hop, which takes 8BITMIME but neither BDAT nor binary content."""
    async with Recorder("PIPELINING", "8BITMIME", "SMTPUTF8").open() as server:
        yield server


@pytest.fixture
async def here(tmp_path: Path, there: Recorder) -> AsyncIterator[Live]:
    async with host(tmp_path, "here.test", next_hop=("there.test", there.port)) as live:
        await live.account("alice@here.test")
        await live.alias("away@here.test", "bob@there.test")
        yield live


def as_others_read(wire: bytes) -> list[bytes]:
    """Split what stood behind a 354 at everything that some server takes for the end of DATA."""
    return re.split(b"|".join(map(re.escape, [*ENDS, b"\r\n.\r\n"])), wire.removesuffix(b"\r\n.\r\n"))


@pytest.mark.parametrize("end", MENDED)
@pytest.mark.parametrize("how", ["DATA", "BDAT"])
async def test_what_is_submitted_with_bare_lfs_leaves_as_one_message(
    here: Live, there: Recorder, end: bytes, how: str
) -> None:
    alice = await here.submitter("alice@here.test")
    await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<bob@there.test>")
    content = FROM + BEFORE + end + SMUGGLED.removesuffix(b".\r\n")
    if how == "DATA":
        assert (await alice.content(content + b".\r\n")).startswith("250")
    else:
        await alice.send(b"BDAT %d LAST\r\n" % len(content) + content)
        assert (await alice.reply()).startswith("250")
    assert (await alice.say("NOOP")).startswith("250 2.0.0 Ok")
    await alice.close()
    await here.idle()
    [wire] = there.contents
    assert is_clean(wire) and wire.count(b"\r\n.\r\n") == 1
    assert [len(part) for part in as_others_read(wire)] == [len(wire) - 5], "nobody sees two messages in it"
    assert there.heard[0].count(b"MAIL FROM") == 2, "one is a command, and one is text"


@pytest.mark.parametrize("end", MENDED)
async def test_what_others_bring_by_bdat_with_bare_lfs_leaves_as_one_message(
    here: Live, there: Recorder, end: bytes
) -> None:
    stranger = await here.client()
    await stranger.reply()
    await stranger.say("EHLO mx.far.test", "MAIL FROM:<x@far.test>", "RCPT TO:<away@here.test>")
    content = BEFORE + end + SMUGGLED
    await stranger.send(b"BDAT %d LAST\r\n" % len(content) + content)
    assert (await stranger.reply()).startswith("250")
    await stranger.close()
    await here.idle()
    [wire] = there.contents
    assert is_clean(wire) and [len(part) for part in as_others_read(wire)] == [len(wire) - 5]


@pytest.mark.parametrize("end", REFUSED)
async def test_what_is_submitted_with_another_end_of_data_is_refused(here: Live, there: Recorder, end: bytes) -> None:
    alice = await here.submitter("alice@here.test")
    await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<bob@there.test>")
    reply = await alice.content(FROM + BEFORE + end + SMUGGLED)
    assert reply.startswith("550 5.6.11")
    # What follows is a client's command again, and the first thing it hears is the answer to its own.
    assert (await alice.say("NOOP")).startswith("250 2.0.0")
    await alice.close()
    await here.idle()
    assert there.heard == [] and await here.inbox("alice@here.test") == []


@pytest.mark.parametrize("end", ENDS)
async def test_what_is_received_with_another_end_of_data_goes_no_further(
    here: Live, there: Recorder, end: bytes
) -> None:
    stranger = await here.client()
    await stranger.reply()
    await stranger.say("EHLO mx.far.test", "MAIL FROM:<x@far.test>", "RCPT TO:<away@here.test>")
    assert (await stranger.content(BEFORE + end + SMUGGLED)).startswith("550 5.6.11")
    await stranger.close()
    await here.idle()
    assert there.heard == []


@pytest.mark.parametrize("end", ENDS)
async def test_binary_content_that_the_next_hop_can_not_take_as_it_is_goes_back(
    here: Live, there: Recorder, end: bytes
) -> None:
    alice = await here.submitter("alice@here.test")
    content = FROM + BEFORE + end + SMUGGLED
    await alice.say("MAIL FROM:<alice@here.test> BODY=BINARYMIME", "RCPT TO:<bob@there.test>")
    await alice.send(b"BDAT %d LAST\r\n" % len(content) + content)
    assert (await alice.reply()).startswith("250")
    await alice.close()
    await here.idle()
    assert there.contents == [], "never behind DATA"
    assert b"DATA" not in b"".join(there.heard)
    [report] = await here.inbox("alice@here.test")
    assert b"5.6" in report


async def test_binary_content_goes_on_octet_by_octet_where_it_can(tmp_path: Path) -> None:
    content = FROM + BEFORE + b"".join(ENDS) + SMUGGLED
    async with (
        Recorder("PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME").open() as there,
        host(tmp_path, "here.test", next_hop=("there.test", there.port)) as here,
    ):
        await here.account("alice@here.test")
        alice = await here.submitter("alice@here.test")
        await alice.say("MAIL FROM:<alice@here.test> BODY=BINARYMIME", "RCPT TO:<bob@there.test>")
        await alice.send(b"BDAT 7\r\n" + content[:7] + b"BDAT %d LAST\r\n" % len(content[7:]) + content[7:])
        assert (await alice.reply()).startswith("250") and (await alice.reply()).startswith("250")
        await alice.close()
        await here.idle()
        assert b"".join(there.contents).endswith(content.removeprefix(FROM))
        assert b"DATA" not in there.heard[0].split(b"BDAT")[0]


DOTTED = FROM + b"Subject: dots\r\n\r\n.\r\n..\r\n.dot\r\n\r\n.\r\n\r\nlast.\r\n."


@pytest.mark.parametrize("how", ["DATA", "BDAT", "BDAT in pieces", "large"])
async def test_every_dot_leaves_doubled_and_the_message_arrives_as_it_was(
    here: Live, there: Recorder, how: str
) -> None:
    content = DOTTED if how != "large" else DOTTED + b"\r\n.\r\n" + b"x" * 70 + (b"\r\n." + b"y" * 60) * 40_000
    alice = await here.submitter("alice@here.test")
    await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<bob@there.test>")
    if how == "DATA":
        assert (await alice.content(content.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n")).startswith("250")
        content += b"\r\n"
    else:
        size = 1 if how == "BDAT in pieces" else 8191
        for start in range(0, len(content), size):
            await alice.send(b"BDAT %d\r\n" % len(content[start : start + size]) + content[start : start + size])
            assert (await alice.reply()).startswith("250")
        assert (await alice.say("BDAT 0 LAST")).startswith("250")
    await alice.close()
    await here.idle()
    [wire] = there.contents
    assert is_clean(wire) and wire.count(b"\r\n.\r\n") == 1
    assert [len(part) for part in as_others_read(wire)] == [len(wire) - 5], "nobody sees two messages in it"
    arrived = wire.removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")
    assert arrived.removesuffix(b"\r\n").endswith(content.removeprefix(FROM).removesuffix(b"\r\n"))


async def test_lmtp_takes_no_other_end_of_data_either(here: Live, there: Recorder) -> None:
    front = await here.client(ListenerProtocol.LMTP)
    await front.reply()
    await front.say("LHLO front.test", "MAIL FROM:<x@far.test>", "RCPT TO:<away@here.test>")
    assert (await front.content(BEFORE + b"\n.\r\n" + SMUGGLED)).startswith("550 5.6.11")
    await front.close()
    await here.idle()
    assert there.heard == []
