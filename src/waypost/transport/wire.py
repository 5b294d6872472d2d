"""The socket, TLS and the clock around a client engine: bytes both ways, one event at a time (RFC 5321 4.5.3.2).

The engine decides what is said. asyncio and uvloop report the end of a connection in different ways, so every
ending here may be told twice. What arrives while a handshake ends is held back: either loop may hand over
decrypted octets before `start_tls` has returned.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

from waypost.protocol.smtp.client import SmtpClient
from waypost.protocol.smtp.client_events import ClientEvent

_WRITE_AHEAD = 262_144  # octets of a large content that may wait for a slow server
_MOST_HELD = 65_536  # octets that may come while a handshake ends


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: for a connection, for the answer to a command, for the answer to the end of a message, for a
    handshake, and for the farewell."""

    connect: float = 30.0
    command: float = 300.0
    data: float = 600.0
    handshake: float = 60.0
    farewell: float = 10.0


class Wire(asyncio.Protocol):
    """The connection under an engine. `ended` is called once, when the socket is gone."""

    __slots__ = (
        "_choked",
        "_closing",
        "_deadline",
        "_departure",
        "_ended",
        "_engine",
        "_farewell",
        "_gone",
        "_held",
        "_loop",
        "_moved",
        "_replies",
        "_shaking",
        "_timeouts",
        "_timer",
        "_transport",
        "_waiter",
        "lost",
        "lost_by",
        "source",
    )

    def __init__(self, engine: SmtpClient, timeouts: Timeouts) -> None:
        self._engine = engine
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._ended: Callable[[], None] | None = None
        self._waiter: asyncio.Future[ClientEvent] | None = None  # the owner waits for the next event
        self._moved: asyncio.Future[None] | None = None  # the owner waits until more content may be written
        self._departure: asyncio.Future[None] | None = None  # the owner waits for the end
        self._timer: asyncio.TimerHandle | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._replies = 0
        self._choked = False
        self._shaking = False
        self._held: list[bytes] = []
        self._closing = False
        self._gone = False
        self.lost = False
        """True when the server ended the connection, or it broke."""
        self.lost_by: Exception | None = None
        """What broke it, where the system or TLS says so."""
        self.source = ""
        """Our IP address."""

    # -- what the transport tells --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands; the server greets next."""
        self._adopt(cast(asyncio.Transport, transport))  # uvloop's transport does not inherit from this class
        self.source = str(transport.get_extra_info("sockname")[0])

    def data_received(self, data: bytes) -> None:  # hot: bench/relay
        """Work through the replies in it."""
        if self._shaking:
            self._held.append(data)
            if sum(map(len, self._held)) > _MOST_HELD:
                self.abort()
            return
        self._engine.receive(data)
        self._go_on()

    def eof_received(self) -> bool:
        """The server has closed; nothing more can be said."""
        self.lost = True
        self._engine.receive_eof()
        self._go_on()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self.lost, self.lost_by = True, exc
        self._engine.receive_eof()
        self._finish()
        self._go_on()

    def pause_writing(self) -> None:
        """The server reads more slowly than we write."""
        self._choked = True

    def resume_writing(self) -> None:
        """The server has read most of it."""
        self._choked = False
        self._wake_writer()

    # -- what the owner asks -------------------------------------------------------------------------------

    def when_gone(self, ended: Callable[[], None]) -> None:
        """Call `ended` once, when the socket is gone."""
        self._ended = ended
        if self._gone:
            ended()

    @property
    def leaving(self) -> bool:
        """True after `leave`."""
        return self._farewell is not None

    @property
    def handshake(self) -> ssl.SSLObject | None:
        """The TLS session; None in plain text."""
        found: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return found

    async def event(self) -> ClientEvent:  # hot: bench/relay
        """Write what the engine has to say, and return its next event; a server that is too slow has failed."""
        event = self._engine.next_event()
        self._write()
        if event is not None:
            return event
        self._waiter = self._loop.create_future()
        self._watch()
        try:
            return await self._waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._waiter = None

    async def shake_hands(self, context: ssl.SSLContext, name: str | None) -> None:
        """Do the handshake that the engine has agreed on. Raises `OSError` (which includes what TLS says), or
        `ValueError` for a name that no certificate can hold; the connection is gone then."""
        self._shaking = True
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_hostname=name,
                ssl_handshake_timeout=self._timeouts.handshake,
                ssl_shutdown_timeout=self._timeouts.farewell,
            )
            if transport is None or self._engine.over:
                raise ConnectionError("the connection was lost")
        except BaseException:
            self.abort()
            raise
        finally:
            self._shaking = False
        self._adopt(transport)
        self._engine.tls_started()
        held, self._held = b"".join(self._held), []
        if held:
            self.data_received(held)

    async def stream(self, pieces: AsyncIterator[bytes]) -> None:
        """Write a large content, no faster than the server reads it. What `pieces` raises ends the connection."""
        engine = self._engine
        try:
            async for piece in pieces:
                engine.send_content(piece)
                self._write()
                while engine.streaming and (self._choked or not engine.wants_content):
                    await self._movement()
                if not engine.streaming:  # the server had enough
                    return
            engine.end_content()
        except BaseException:
            self.abort()
            raise

    def leave(self) -> None:
        """Say QUIT; the connection ends by itself when the server has answered, or soon after."""
        if self._engine.over:
            self._close()
        elif self._farewell is None:
            self._farewell = self._loop.call_later(self._timeouts.farewell, self.abort)
            self._engine.quit()
            self._write()

    async def quit(self) -> None:
        """Say QUIT, and return when the connection is gone."""
        self.leave()
        if not self._gone:
            if self._departure is None:
                self._departure = self._loop.create_future()
            await asyncio.shield(self._departure)

    def abort(self) -> None:
        """End the connection at once."""
        self._engine.fail("the connection was broken off", "4.4.2")
        self._transport.abort()
        self._finish()

    # -- inside --------------------------------------------------------------------------------------------

    def _adopt(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_AHEAD)

    def _go_on(self) -> None:  # hot: bench/relay
        """The engine may have something to write, and something to tell."""
        engine = self._engine
        self._write()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            event = engine.next_event()
            if event is not None:
                waiter.set_result(event)
            elif engine.replies != self._replies:  # an answer came, and the next one has its own time
                self._watch()
        if self._moved is not None:
            self._wake_writer()
        if engine.over:
            self._close()

    def _write(self) -> None:
        output = self._engine.take_output()
        if output and not self._gone:
            self._transport.write(output)

    async def _movement(self) -> None:
        self._moved = self._loop.create_future()
        self._watch()
        try:
            await self._moved
        finally:
            self._moved = None

    def _wake_writer(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    def _watch(self) -> None:
        """Begin the time that the server has for its next move."""
        self._replies = self._engine.replies
        timeouts = self._timeouts
        self._deadline = self._loop.time() + (timeouts.data if self._engine.awaits_final else timeouts.command)
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look)
        elif self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        """The timer: one for the life of the connection, wound up again while there is time left."""
        self._timer = None
        if self._waiter is None and self._moved is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look)
            return
        self._engine.fail("the server did not answer in time", "4.4.2")
        self._go_on()

    def _close(self) -> None:
        """The session is over: a server that does not read any more is not waited for."""
        if self._gone or self._closing:
            return
        self._closing = True  # asyncio's TLS transport bears no second question
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
        if self._farewell is None:
            # TLS has a farewell of its own, which a dead server never answers.
            self._farewell = self._loop.call_later(self._timeouts.farewell, self.abort)

    def _finish(self) -> None:
        if self._gone:
            return
        self._gone = True
        for timer in (self._timer, self._farewell):
            if timer is not None:
                timer.cancel()
        self._timer = None
        if self._departure is not None and not self._departure.done():
            self._departure.set_result(None)
        if self._ended is not None:
            self._ended()
