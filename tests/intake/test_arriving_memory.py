"""Messages that arrive share one budget of memory. Past it bodies go to disk early; large headers are answered 452."""

import pytest
from tests.intake.conversation import Conversation, House

from waypost.intake.memory import ArrivingMemory
from waypost.protocol.session import Ending

BOB, ALICE = "bob@here.test", "alice@here.test"
KIB = 1024
SPARED = 16 * KIB
LIMIT = 1024 * KIB
CLIENTS = 40


@pytest.fixture
def memory(house: House) -> ArrivingMemory:
    house.memory = ArrivingMemory(LIMIT, house.settings.limits.memory_per_message)
    return house.memory


async def begin(house: House, way: str = "reception") -> Conversation:
    talk = await (house.submission(ALICE) if way == "submission" else getattr(house, way)())
    sender = ALICE if way == "submission" else "x@there.test"
    assert await talk.say(f"MAIL FROM:<{sender}>", f"RCPT TO:<{BOB}>", "DATA") == "354 Go ahead; end with <CRLF>.<CRLF>"
    return talk


def in_memory(house: House) -> int:
    """Octets of bodies that are really held."""
    return sum(sum(map(len, made.body.parts)) for made in house.storage.spool.made)  # type: ignore[attr-defined]


async def visit(house: House) -> None:
    """The neighbour brings a message, submits one, and both are there."""
    before = len(await house.inbox(BOB))
    assert (await (await house.reception()).message("n@there.test", BOB)).startswith("250")
    assert (await (await house.submission(ALICE)).message(ALICE, BOB)).startswith("250")
    assert len(await house.inbox(BOB)) == before + 2


@pytest.mark.parametrize("way", ["reception", "submission", "lmtp"])
async def test_clients_that_stop_in_their_bodies_hold_no_more_than_the_budget(
    house: House, memory: ArrivingMemory, way: str
) -> None:
    house.watch_spool()
    talks = []
    for _ in range(CLIENTS):
        talk = await begin(house, way)
        await talk.send(b"From: alice@here.test\r\n\r\n")
        for _ in range(6):
            await talk.send(b"x" * 32 * KIB)
        talks.append(talk)
        assert memory.used <= LIMIT + 2 * 64 * KIB + len(talks) * SPARED
    assert in_memory(house) <= memory.used <= LIMIT + CLIENTS * SPARED, "of 7.5 MiB that came"
    await visit(house)
    for talk in talks[: CLIENTS // 2]:
        assert (await talk.send(b"\r\n.\r\n")).startswith("250"), "and none of them is lost"
    for message in (await house.inbox(BOB))[2:]:
        assert message.endswith(b"\r\n\r\n" + b"x" * 192 * KIB + b"\r\n")
    for talk in talks:
        talk.hang_up()
    assert memory.used == 0


@pytest.mark.parametrize("size", [1000, 32 * KIB, 200 * KIB])
async def test_clients_that_stop_in_their_headers_hold_no_more_than_the_budget(
    house: House, memory: ArrivingMemory, size: int
) -> None:
    house.watch_spool()
    talks, refused = [], 0
    line = b"X: " + b"y" * (995 - 3) + b"\r\n"
    for _ in range(CLIENTS):
        talk = await begin(house)
        header = line * 200
        for start in range(0, len(header), size):
            await talk.send(header[start : start + size])
        talks.append(talk)
        assert memory.used <= LIMIT + len(talks) * SPARED + 200 * KIB
    assert memory.used <= LIMIT + CLIENTS * SPARED
    await visit(house)
    for talk in talks:
        answer = await talk.send(b"\r\nhello\r\n.\r\n")
        refused += answer.startswith("452 4.3.1 Too much arrives at once")
        assert answer.startswith(("250", "452 4.3.1"))
    assert 0 < refused < CLIENTS
    assert memory.used == 0, "whoever is answered holds nothing"


async def test_a_message_is_counted_while_it_arrives_and_not_afterwards(house: House, memory: ArrivingMemory) -> None:
    talk = await begin(house)
    await talk.send(b"Subject: x\r\n\r\n")
    assert memory.used > 0
    await talk.send(b"y" * 100 * KIB)
    assert 100 * KIB <= memory.used <= 101 * KIB
    assert (await talk.send(b"\r\n.\r\n")).startswith("250") and memory.used == 0


@pytest.mark.parametrize("end", ["RSET", "hang up", "too large", "shut down"])
async def test_what_is_given_up_is_counted_no_more(house: House, memory: ArrivingMemory, end: str) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", f"RCPT TO:<{BOB}>")
    await talk.send(b"BDAT 50000\r\n" + b"A: b\r\n\r\n" + b"x" * 49_992)
    assert memory.used >= 49_992
    if end == "RSET":
        await talk.say("RSET")
    elif end == "hang up":
        talk.hang_up()
    elif end == "too large":
        await talk.send(b"BDAT 999999999\r\n")
        for _ in range(60):
            await talk.send(b"x" * 1024 * KIB)
    else:
        talk.session.shut_down(Ending.TIMED_OUT)
        talk.session.closed()
    assert memory.used == 0


async def test_small_messages_stay_in_memory_where_it_is_scarce(house: House, memory: ArrivingMemory) -> None:
    memory.used = 2 * LIMIT
    house.watch_spool()
    assert (await (await house.reception()).message("x@there.test", BOB)).startswith("250")
    assert not any(made.body.spilled for made in house.storage.spool.made)  # type: ignore[attr-defined]
    memory.used -= 2 * LIMIT
    assert memory.used == 0
