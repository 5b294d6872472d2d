"""Beside clients that read giants, or ask for each of many messages, or guess, a neighbour is served."""

import pytest
from tests.neighbours.frame import ALICE, Work, lines, maildrop, stands_beside
from tests.security.live import Live, Wire
from tests.storage.letters import Letters

from waypost.config.settings import ListenerProtocol as Protocol

MIB = 1024 * 1024
MANY = 300
PEOPLE = "é <a@b.test>, "

GIANTS = {
    "lines": b"Subject: much\r\n\r\n" + b"hello\r\n" * (2 * MIB // 7),
    "dots": b"Subject: much\r\n\r\n" + b".\r\n" * (MIB // 3),
    "bare line feeds": b"Subject: much\r\n\r\n" + b"\n" * (MIB // 4),
    "a header with UTF-8": f"To: {PEOPLE * 4000}a@b.test\r\n".encode() + b"\r\nhi\r\n",
    "fields with UTF-8": "To: é\r\n".encode() * 10_000 + b"\r\nhi\r\n",
}


async def stored(live: Live, content: bytes, copies: int = 1) -> None:
    """Put messages into alice's mailbox."""
    storage = live.assembly.storage.storage
    account = await storage.directory.account(ALICE)
    assert account is not None
    letters = Letters(storage, live.now, 5)
    for _ in range(copies):
        await letters.post(content, mailboxes=[account.inbox], head=b"")


@pytest.mark.parametrize("command", [b"RETR 1\r\n", b"TOP 1 999999999\r\n"])
@pytest.mark.parametrize("what", GIANTS)
async def test_a_neighbour_of_giants_that_are_read(live: Live, work: Work, what: str, command: bytes) -> None:
    await stored(live, GIANTS[what])
    wire = await maildrop(live, ALICE)

    async def again() -> None:
        await wire.send(command)
        await lines(wire)

    await stands_beside(live, work, again)


async def test_a_neighbour_of_logins_to_a_mailbox_whose_giants_are_looked_into_first(live: Live, work: Work) -> None:
    for what in ("bare line feeds", "a header with UTF-8", "fields with UTF-8"):
        await stored(live, GIANTS[what])

    async def again() -> None:
        wire = await maildrop(live, ALICE)
        await wire.send(b"QUIT\r\n")
        await wire.line()
        await wire.close()

    await stands_beside(live, work, again)


async def each(wire: Wire, command: bytes) -> None:
    """Say a command for each message in one go, and read all answers."""
    await wire.send(b"".join(command % number + b"\r\n" for number in range(1, MANY + 1)))
    for _ in range(MANY):
        if command[:4] in (b"RETR", b"TOP "):
            await lines(wire)
        else:
            assert (await wire.line()).startswith("+OK")


@pytest.mark.parametrize("command", [b"RETR %d", b"TOP %d 0", b"LIST %d", b"UIDL %d"])
async def test_a_neighbour_of_commands_for_each_of_many(live: Live, work: Work, command: bytes) -> None:
    await stored(live, b"Subject: one of many\r\n\r\nhello\r\n", MANY)
    wire = await maildrop(live, ALICE)
    await stands_beside(live, work, lambda: each(wire, command))


@pytest.mark.parametrize("command", [b"LIST\r\n", b"UIDL\r\n"])
async def test_a_neighbour_of_listings_of_many(live: Live, work: Work, command: bytes) -> None:
    await stored(live, b"Subject: one of many\r\n\r\nhello\r\n", MANY)
    wire = await maildrop(live, ALICE)

    async def again() -> None:
        await wire.send(command * 10)
        for _ in range(10):
            await lines(wire)

    await stands_beside(live, work, again)


async def test_a_neighbour_of_sessions_that_remove_many(live: Live, work: Work) -> None:
    async def again() -> None:
        await stored(live, b"Subject: one of many\r\n\r\nhello\r\n", MANY)
        wire = await maildrop(live, ALICE)
        await each(wire, b"DELE %d")
        await wire.send(b"QUIT\r\n")
        assert (await wire.line()).startswith("+OK")
        await wire.close()

    await stands_beside(live, work, again)


async def test_a_neighbour_of_guesses(live: Live, work: Work) -> None:
    async def again() -> None:
        wire = await live.client(Protocol.POP3S, tls=True)
        await wire.line()
        await wire.send(f"USER {ALICE}\r\nPASS wrong\r\n".encode())
        await wire.line()
        await wire.line()
        await wire.close()

    await stands_beside(live, work, *[again] * 10)
