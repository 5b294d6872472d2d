"""The wire around the engine, where the timing of a loop matters: played with a transport of the test."""

import asyncio
import ssl
from typing import Any, cast

import pytest

from waypost.protocol.smtp.client import ClientOptions, SmtpClient
from waypost.protocol.smtp.client_events import Disconnected, Greeted, TlsProceeds, Welcomed
from waypost.transport.wire import Timeouts, Wire


class Transport(asyncio.Transport):
    """Remembers what was written."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("192.0.2.9", 40000)})
        self.written = b""
        self.waiting = 0
        self.ends: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def close(self) -> None:
        self.ends.append("closed")

    def abort(self) -> None:
        self.ends.append("aborted")


async def wire_with(timeouts: Timeouts | None = None) -> tuple[Wire, SmtpClient, Transport]:
    """A wire whose server has greeted and offered STARTTLS."""
    engine = SmtpClient(ClientOptions("client.test"), now=lambda: 0)
    wire = Wire(engine, timeouts or Timeouts())
    transport = Transport()
    wire.connection_made(transport)
    wire.data_received(b"220 mx.test\r\n")
    assert isinstance(await wire.event(), Greeted)
    engine.hello()
    hello = asyncio.ensure_future(wire.event())
    await asyncio.sleep(0)
    assert transport.written == b"EHLO client.test\r\n"
    wire.data_received(b"250-mx.test\r\n250 STARTTLS\r\n")
    assert isinstance(await hello, Welcomed)
    return wire, engine, transport


async def ready_to_shake(wire: Wire, engine: SmtpClient) -> None:
    engine.start_tls()
    proceeding = asyncio.ensure_future(wire.event())
    await asyncio.sleep(0)
    wire.data_received(b"220 go\r\n")
    assert isinstance(await proceeding, TlsProceeds)


@pytest.mark.parametrize("early", [b"", b"250-mx.test\r\n250 AUTH PLAIN\r\n"])
async def test_input_is_held_until_start_tls_has_returned(early: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    wire, engine, _transport = await wire_with()
    await ready_to_shake(wire, engine)
    secure = Transport()
    before = engine.replies

    async def start_tls(*_: object, **__: object) -> Transport:
        wire.data_received(early)
        assert engine.replies == before and not engine.over, "it is not read before the handshake is over for us"
        return secure

    monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", start_tls)
    await wire.shake_hands(cast(ssl.SSLContext, None), "mx.test")
    if early:
        assert await wire.event() == Disconnected("the server sent a reply that nothing asked for", "4.5.0")
    else:
        engine.hello()
        assert engine.take_output() == b"EHLO client.test\r\n"


async def test_a_flood_in_the_handshake_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wire, engine, transport = await wire_with()
    await ready_to_shake(wire, engine)

    async def start_tls(*_: object, **__: object) -> Transport:
        for _ in range(20):
            wire.data_received(b"x" * 10_000)
        return Transport()

    monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", start_tls)
    with pytest.raises(ConnectionError):
        await wire.shake_hands(cast(ssl.SSLContext, None), "mx.test")
    assert engine.over and "aborted" in transport.ends


@pytest.mark.parametrize("endings", [["eof", "lost"], ["lost", "eof"], ["lost", "lost"], ["abort", "lost"]])
async def test_an_end_that_is_told_twice_is_one_end(endings: list[str]) -> None:
    wire, engine, _transport = await wire_with()
    ends: list[int] = []
    wire.when_gone(lambda: ends.append(1))
    for ending in endings:
        match ending:
            case "eof":
                wire.eof_received()
            case "lost":
                wire.connection_lost(None)
            case _:
                wire.abort()
    wire.leave()
    await wire.quit()
    assert ends == [1] and engine.over


async def test_who_asks_late_for_the_end_is_told_at_once() -> None:
    wire, _, _ = await wire_with()
    wire.connection_lost(None)
    ends: list[int] = []
    wire.when_gone(lambda: ends.append(1))
    assert ends == [1]


async def test_a_server_that_reads_no_more_is_not_waited_for() -> None:
    wire, _, transport = await wire_with()
    transport.waiting = 1000
    wire.eof_received()
    assert transport.ends == ["aborted"]


async def test_a_part_of_a_reply_buys_no_time() -> None:
    """A server that drips one octet at a time has no more time for its reply than another."""
    wire, engine, _transport = await wire_with(Timeouts(command=0.1, farewell=0.1))
    engine.hello()
    hello = asyncio.ensure_future(wire.event())

    async def drip() -> None:
        while not hello.done():
            wire.data_received(b"2")
            await asyncio.sleep(0.02)

    dripping = asyncio.ensure_future(drip())
    assert await asyncio.wait_for(hello, 5) == Disconnected("the server did not answer in time", "4.4.2")
    await dripping


async def test_quit_waits_for_the_answer_and_no_longer_than_the_farewell() -> None:
    wire, engine, transport = await wire_with(Timeouts(farewell=0.05))
    wire.leave()
    wire.leave()
    assert transport.written.endswith(b"QUIT\r\n") and transport.written.count(b"QUIT") == 1
    assert wire.leaving
    await wire.quit()
    assert transport.ends == ["aborted"]
    wire, engine, transport = await wire_with()
    leaving = asyncio.ensure_future(wire.quit())
    await asyncio.sleep(0)
    wire.data_received(b"221 bye\r\n")
    assert transport.ends == ["closed"] and not leaving.done()
    wire.connection_lost(None)
    await leaving
    assert cast(Any, engine).over
