"""Beside giants and floods of messages that arrive, on every port that takes them, a neighbour is served."""

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable

import pytest
from tests.neighbours.frame import ALICE, CAROL, STRANGER, Work, brings, greeted, stands_beside
from tests.security.live import Live, Wire

from waypost.config.settings import ListenerProtocol as Protocol
from waypost.intake import acceptance, session
from waypost.message.headers import HeaderBlock
from waypost.storage import Alias

MIB = 1024 * 1024
HEAD = b"From: alice@here.test\r\nTo: x@there.test\r\nSubject: much\r\n"
HEADER = 250 * 1024  # octets: just below `limits.header_size`

Again = Callable[[], Awaitable[object]]


def full_of(unit: bytes, size: int) -> bytes:
    """Return as many copies as fit into so many octets."""
    return unit * (size // len(unit))


GIANTS = {
    "lines": HEAD + b"\r\n" + full_of(b"x" * 76 + b"\r\n", 2 * MIB),
    "empty lines": HEAD + b"\r\n" + full_of(b"\r\n", MIB // 4),
    "dots": HEAD + b"\r\n" + full_of(b"..\r\n", MIB // 4),
    "one line": HEAD + b"\r\n" + full_of(b"x", 2 * MIB) + b"\r\n",
    "fields": HEAD + full_of(b"A: b\r\n", HEADER) + b"\r\nx\r\n",
    "lines that are no fields": full_of(b"x\r\n", HEADER) + b"\r\nx\r\n",
    "a folded field": b"Subject:" + full_of(b"\r\n x", HEADER) + b"\r\n\r\nx\r\n",
    "a header past the limit": full_of(b"A: b\r\n", MIB) + b"\r\nx\r\n",
    "nested parts": HEAD + full_of(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", MIB),
}
SUBMITTED = GIANTS | {
    "bare line feeds": HEAD + b"\r\n" + full_of(b"\n", MIB // 4) + b"\r\n",
    "recipients in the header": HEAD + b"Cc: " + full_of(b"a@here.test,\r\n ", HEADER) + b"a@b.test\r\n\r\nx\r\n",
    "fields to take out": HEAD + full_of(b"Bcc: a@here.test\r\n", HEADER) + b"\r\nx\r\n",
    "authors": b"From: " + full_of(b"alice+x@here.test,\r\n ", 16_000) + b"alice@here.test\r\n\r\nx\r\n",
    "too many authors": b"From: " + full_of(b"alice@here.test,\r\n ", HEADER) + b"alice@here.test\r\n\r\nx\r\n",
    "raw UTF-8": HEAD + b"X: " + full_of("é ".encode(), 16_000) + b"\r\n\r\nx\r\n",
    "comments": b"From: " + full_of(b"(", 16_000) + b"\r\n\r\nx\r\n",
}
"""What has to be looked into, and mended, because a user submits it."""


@pytest.mark.parametrize("what", GIANTS)
async def test_a_neighbour_of_giants_on_25(live: Live, work: Work, what: str) -> None:
    wire = await greeted(live)
    await stands_beside(live, work, lambda: brings(wire, STRANGER, [CAROL], GIANTS[what]))


@pytest.mark.parametrize("what", SUBMITTED)
async def test_a_neighbour_of_giants_that_a_user_submits(live: Live, work: Work, what: str) -> None:
    wire = await live.submitter(ALICE)
    await stands_beside(live, work, lambda: brings(wire, ALICE, [CAROL], SUBMITTED[what]))


@pytest.mark.parametrize("what", ["lines", "lines that are no fields"])
async def test_a_neighbour_of_giants_by_lmtp(live: Live, work: Work, what: str) -> None:
    wire = await greeted(live, Protocol.LMTP)
    to = [CAROL] * 100
    await stands_beside(live, work, lambda: brings(wire, STRANGER, to, GIANTS[what], replies=100))


async def in_chunks(wire: Wire, octets: int) -> None:
    await wire.say(f"MAIL FROM:<{STRANGER}>", f"RCPT TO:<{CAROL}>")
    await wire.send(b"BDAT 1\r\nx" * octets + b"BDAT 0 LAST\r\n")
    for _ in range(octets + 1):
        await wire.reply()


async def test_a_neighbour_of_chunks_of_one_octet(live: Live, work: Work) -> None:
    wire = await greeted(live)
    await stands_beside(live, work, lambda: in_chunks(wire, 1000))


@pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.LMTP])
async def test_a_neighbour_of_messages_to_a_thousand_recipients(live: Live, work: Work, protocol: Protocol) -> None:
    wire = await greeted(live, protocol)
    to = [f"carol+{number}@here.test" for number in range(1000)]
    replies = 1000 if protocol is Protocol.LMTP else 1
    await stands_beside(live, work, lambda: brings(wire, STRANGER, to, b"Subject: all\r\n\r\nhi\r\n", replies=replies))


@pytest.mark.parametrize("size", [1000, 10_000])
async def test_a_neighbour_of_messages_to_a_group(live: Live, work: Work, size: int) -> None:
    directory = live.assembly.storage.storage.directory
    await directory.set_alias(Alias("all@here.test", tuple(f"m{number}@there.test" for number in range(size))))
    wire = await greeted(live)
    to = [f"all+{number}@here.test" for number in range(100)]
    await stands_beside(live, work, lambda: brings(wire, STRANGER, to, b"Subject: all\r\n\r\nhi\r\n"))


async def test_a_neighbour_of_messages_to_a_group_of_accounts(live: Live, work: Work) -> None:
    """Each message arrives in ten thousand mailboxes, by one commit."""
    people = [f"m{number}@here.test" for number in range(10_000)]
    await asyncio.gather(*map(live.account, people))
    await live.assembly.storage.storage.directory.set_alias(Alias("all@here.test", tuple(people)))
    wire = await greeted(live)
    await stands_beside(live, work, lambda: brings(wire, STRANGER, ["all@here.test"], b"Subject: all\r\n\r\nhi\r\n"))
    assert len(await live.inbox(people[-1])) >= 1


@pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.LMTP])
async def test_who_names_a_group_again_and_again_is_asked_for_another_message(
    live: Live, monkeypatch: pytest.MonkeyPatch, protocol: Protocol
) -> None:
    """RFC 5321 4.5.3.1.10: the client sends the rest in another message; nobody is lost, and it is not an error."""
    monkeypatch.setattr(session, "_MOST_REACHED", 20)
    await live.alias("all@here.test", *(f"carol+{number}@here.test" for number in range(9)), ALICE, STRANGER)
    wire = await greeted(live, protocol)
    await wire.say(f"MAIL FROM:<{STRANGER}>")
    codes = [(await wire.say(f"RCPT TO:<all+{number}@here.test>"))[:9] for number in range(12)]
    assert codes == ["250 2.1.5"] * 7 + ["452 4.5.3"] * 5
    assert (await wire.content(b"Subject: all\r\n\r\nhi\r\n.\r\n")).startswith("250")
    await wire.close()
    wire = await greeted(live)
    await wire.say(f"MAIL FROM:<{STRANGER}>")
    assert (await wire.say("RCPT TO:<all+11@here.test>")).startswith("250"), "the next message begins anew"
    assert len(await live.inbox(CAROL)) == 1


async def test_a_neighbour_of_logins_that_are_no_logins(live: Live, work: Work) -> None:
    wire = await greeted(live, Protocol.SUBMISSION)
    await wire.say("STARTTLS")
    await wire.start_tls()
    await wire.say("EHLO flood.test")
    octets = base64.b64encode(b"\0" + b"x" * 9000 + b"\0y").decode()

    async def again() -> None:
        for line in ("AUTH PLAIN", octets, "AUTH SCRAM-SHA-256", octets, "AUTH LOGIN", "*"):
            await wire.say(line)

    await stands_beside(live, work, again)


async def test_a_neighbour_of_handshakes(live: Live, work: Work) -> None:
    async def again() -> None:
        wire = await greeted(live, Protocol.SUBMISSION)
        await wire.say("STARTTLS")
        await wire.start_tls()
        await wire.close()

    await stands_beside(live, work, *[again] * 10)


@pytest.mark.parametrize("what", ["fields", "lines that are no fields"])
async def test_a_giant_header_is_divided_into_fields_beside_the_loop(
    live: Live, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    divided = []

    class Watched(HeaderBlock):
        def __init__(self, data: bytes) -> None:
            divided.append(threading.current_thread() is threading.main_thread())
            super().__init__(data)

    monkeypatch.setattr(acceptance, "HeaderBlock", Watched)
    wire = await greeted(live)
    assert (await brings(wire, STRANGER, [CAROL], GIANTS[what])).startswith("250")
    assert (await brings(wire, STRANGER, [CAROL], HEAD + b"\r\nshort\r\n")).startswith("250")
    assert divided == [False, True]
