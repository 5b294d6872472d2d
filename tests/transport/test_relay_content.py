"""What the relay sends: octets as they are stored, large ones in a stream, and nothing of a message that is damaged."""

import asyncio
import tracemalloc

import pytest
from tests.transport.mail_server import CLOSE, STALL, MailServer
from tests.transport.relay_world import MESSAGE, SHORT, World

from waypost.message.address import Address
from waypost.message.envelope import BodyType, Envelope
from waypost.queue.carrier import Fate
from waypost.transport.wire import Timeouts

HOPS = [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")]
MIB = 1024 * 1024


def large(size: int) -> bytes:
    """A message with dots and umlauts at every place that matters."""
    line = "..Grüße aus dem Wunderland, von A bis Z und zurück\r\n.\r\n".encode()
    return b"Subject: tea\r\n\r\n" + line * (size // len(line))


@pytest.mark.parametrize("offers", HOPS)
@pytest.mark.parametrize("stream_above", [10, 10 * MIB])
async def test_octets_arrive_as_they_are_stored(offers: tuple[str, ...], stream_above: int) -> None:
    world = World(stream_above=stream_above)
    content = large(300_000)
    async with MailServer(*offers, "8BITMIME") as server:
        carried = await world.carry(world.entry(content=content), world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED] * 2
    assert sorted(taken.content for taken in server.taken) == sorted([content, MESSAGE])
    assert any("BODY=8BITMIME" in taken.mail for taken in server.taken)


async def test_a_message_without_a_last_line_end_gets_one_behind_data_only() -> None:
    for offers in HOPS:
        world = World()
        async with MailServer(*offers) as server:
            await world.carry(world.entry(content=b"Subject: x\r\n\r\nno end"), way=server.way())
            await world.close()
        assert server.taken[0].content == b"Subject: x\r\n\r\nno end" + (b"" if "CHUNKING" in offers else b"\r\n")


async def test_an_empty_message_is_a_message() -> None:
    for offers in HOPS:
        world = World()
        async with MailServer(*offers) as server:
            carried = await world.carry(world.entry(content=b""), way=server.way())
            await world.close()
        assert carried.fates == [Fate.RELAYED]


@pytest.mark.parametrize("stream_above", [10, 10 * MIB])
async def test_binary_content_goes_by_bdat_or_not_at_all(stream_above: int) -> None:
    content = b"Subject: x\r\n\r\n\0\x01\n\r" * 1000
    envelope = Envelope(Address.parse("alice@client.test"), body=BodyType.BINARY)
    for offers in [("CHUNKING", "BINARYMIME"), ("PIPELINING", "CHUNKING", "BINARYMIME"), ("PIPELINING", "8BITMIME")]:
        world = World(stream_above=stream_above)
        async with MailServer(*offers) as server:
            carried = await world.carry(world.entry(content=content, envelope=envelope), way=server.way())
            await world.close()
        if "BINARYMIME" in offers:
            assert [taken.content for taken in server.taken] == [content]
        else:
            assert carried.fates == [Fate.FAILED] and carried.only.results[0].status == "5.6.3"


@pytest.mark.parametrize("offers", HOPS)
@pytest.mark.parametrize("stream_above", [10, 10 * MIB])
async def test_a_bare_line_end_never_leaves(offers: tuple[str, ...], stream_above: int) -> None:
    world = World(stream_above=stream_above)
    async with MailServer(*offers) as server:
        smuggled = b"Subject: x\r\n\r\nhi\n.\r\nMAIL FROM:<evil@client.test>\r\n"
        carried = await world.carry(world.entry(content=smuggled), way=server.way())
        await world.close()
    assert carried.fates == [Fate.FAILED] and carried.only.results[0].status == "5.6.1"
    assert not any(line.startswith("MAIL") for visit in server.visits for line in visit.lines)


@pytest.mark.parametrize("offers", HOPS)
async def test_a_slow_reader_does_not_fill_our_memory(offers: tuple[str, ...]) -> None:
    """The server stops reading in the middle of 64 MiB; what we hold meanwhile is bounded."""
    world = World(timeouts=Timeouts(command=30.0))
    content = large(64 * MIB)
    server = MailServer(*offers, "8BITMIME")
    server.limit = 65536
    reading = asyncio.Event()
    original = server._accepted

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        readuntil, readexactly = reader.readuntil, reader.readexactly

        async def slow_until(separator: bytes) -> bytes:
            if separator != b".\r\n":
                return await readuntil(separator)
            await reading.wait()
            data = b""
            while not data.endswith(b"\r\n.\r\n"):
                data = (data + await reader.read(1 << 20))[-5:]
            return data

        async def slow_exactly(size: int) -> bytes:
            await reading.wait()
            await readexactly(size)
            return b""

        reader.readuntil, reader.readexactly = slow_until, slow_exactly  # type: ignore[method-assign,assignment]
        await original(reader, writer)

    server._accepted = slow  # type: ignore[method-assign]
    entry = world.entry(content=content)
    async with server:
        tracemalloc.start()
        try:
            carrying = asyncio.create_task(world.carry(entry, way=server.way()))
            await server.until(lambda: server.visits)
            quiet, before = 0, -1
            while quiet < 50:  # until nothing is read any more
                await asyncio.sleep(0.005)
                quiet = quiet + 1 if world.spool.read == before and before > 256 else 0
                before = world.spool.read
            assert not carrying.done()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * MIB
        reading.set()
        assert (await carrying).fates == [Fate.RELAYED]
        await world.close()


@pytest.mark.parametrize("failure", [STALL, CLOSE, "552 5.3.4 enough"])
@pytest.mark.parametrize("offers", HOPS)
async def test_a_server_that_fails_at_the_end_of_a_stream_defers_or_refuses(
    offers: tuple[str, ...], failure: str
) -> None:
    world = World(stream_above=10, timeouts=SHORT)
    async with MailServer(*offers, CONTENT=failure) as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.FAILED if failure.startswith("552") else Fate.DEFERRED]


async def test_a_server_that_does_not_read_is_left() -> None:
    world = World(timeouts=SHORT)
    stalled = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.visits.append(None)  # type: ignore[arg-type]
        writer.write(b"220 hi\r\n")
        for answer in (b"250 mx.test", b"250 ok", b"250 ok", b"354 go"):
            await reader.readuntil(b"\r\n")
            writer.write(answer + b"\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await stalled.wait()
        writer.transport.abort()

    server = MailServer()
    server._accepted = deaf  # type: ignore[method-assign]
    async with server:
        carried = await world.carry(world.entry(content=b"Subject: x\r\n\r\n" + b"x\r\n" * 10 * MIB), way=server.way())
        stalled.set()
        await world.close()
    assert carried.fates == [Fate.DEFERRED]
    assert carried.words == ["(the server did not answer in time)"]


# -- the disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream_above", [10, 10 * MIB])
async def test_a_message_that_is_gone_is_reported_and_the_next_one_goes_out(
    stream_above: int, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(stream_above=stream_above, max_connections_per_destination=1)
    gone, fine = world.entry("a@server.test", "b@server.test"), world.entry()
    del world.spool.messages[gone.trace]
    async with MailServer("PIPELINING") as server:
        carried = await world.carry(gone, fine, way=server.way())
        await world.close()
    assert carried.fates == [Fate.DEFERRED, Fate.DEFERRED, Fate.RELAYED]
    assert carried.words[0] == "(the message can't be read from our disk)"
    assert len(server.visits) == 1, "the connection was not touched"
    assert "ERROR" in [record.levelname for record in caplog.records]


@pytest.mark.parametrize("offers", HOPS)
@pytest.mark.parametrize("stream_above", [10, 10 * MIB])
async def test_nothing_is_sent_of_a_message_that_is_damaged(offers: tuple[str, ...], stream_above: int) -> None:
    world = World(stream_above=stream_above)
    entry = world.entry(content=large(100_000))
    world.spool.damaged.add(entry.trace)
    async with MailServer(*offers, "8BITMIME") as server:
        carried = await world.carry(entry, way=server.way())
        await world.close()
    assert carried.fates == [Fate.DEFERRED]
    assert carried.only.results[0].status == "4.3.0" and carried.failure is None
    assert not any(line.startswith("MAIL") for visit in server.visits for line in visit.lines)


@pytest.mark.parametrize("offers", HOPS)
async def test_a_message_that_breaks_while_it_is_sent_is_never_ended(offers: tuple[str, ...]) -> None:
    world = World(stream_above=10)
    entry = world.entry("a@server.test", "eve@server.test", content=large(3_000_000))

    def rcpt(visit: object, line: str) -> str:
        world.spool.damaged.add(entry.trace)  # between the facts and the stream
        return "550 5.1.1 no" if "eve" in line else "250 ok"

    async with MailServer(*offers, "8BITMIME", RCPT=rcpt) as server:
        carried = await world.carry(entry, world.entry(), way=server.way())
        await world.close()
    assert not [taken for taken in server.taken if taken.content != MESSAGE]
    [result] = [result for result in carried.results if result.entry is entry]
    assert {one.fate for one in result.results} == {Fate.DEFERRED}
    assert len(result.results) == 2


async def test_a_fault_of_ours_holds_up_one_message_only(caplog: pytest.LogCaptureFixture) -> None:
    world = World(max_connections_per_destination=1)
    poison, fine = world.entry(), world.entry()
    world.spool.messages[poison.trace] = "no octets"  # type: ignore[assignment]
    async with MailServer("PIPELINING") as server:
        carried = await world.carry(poison, fine, way=server.way())
        await world.close()
    assert carried.fates == [Fate.DEFERRED, Fate.RELAYED]
    assert "an attempt failed by a fault of ours" in [record.message for record in caplog.records]
