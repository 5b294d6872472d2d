"""A connection: the socket, the handshake and the clock of one session, for every protocol alike.

Nothing here knows a protocol; a session (`protocol/session.py`) decides, and never sees a socket. While a client is
silent there is no task and no buffer, only this object and one timer; a task exists while the session's work waits.
asyncio and uvloop report the end of a connection by different callbacks, so every way out may be taken twice.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, cast

from msgspec.structs import replace

from waypost.protocol.session import Ending, Next, Peer, Session
from waypost.service.sockets.closing import begin_to_close
from waypost.service.sockets.eager import begin
from waypost.service.sockets.flow import Flow
from waypost.service.sockets.outbox import Outbox
from waypost.service.sockets.timing import LastWords, Timing
from waypost.service.sockets.tls import ServerTls, handshake_problem

log = logging.getLogger(__name__)


class _State(Enum):
    NEW = auto()  # no transport yet: an implicit handshake may still fail
    OPEN = auto()
    SHAKING = auto()  # STARTTLS: input belongs to the handshake, or waits until it is over
    CLOSING = auto()  # the last words are on their way; input is dropped
    GONE = auto()


class Connection(asyncio.Protocol):
    """Drives the session that `make` returns. `ended` is called once, when the session has been `closed`.

    `tls` is None where no STARTTLS is offered; on an implicit TLS port the transport is encrypted from the start.
    `protocol`, `peer`, `encrypted` and `started` (in the loop's time) are for those who look at it, and theirs to read.
    """

    def __init__(
        self,
        make: Callable[[], Session],
        peer: Peer,
        *,
        tls: ServerTls | None,
        timing: Timing,
        outbox: Outbox,
        ended: Callable[["Connection"], None],
        protocol: str = "",
    ) -> None:
        self.protocol = protocol
        self._make = make
        self.peer = peer
        self._tls = tls
        self._timing = timing
        self._outbox = outbox
        self._ended = ended
        self._state = _State.NEW
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flow = Flow(self._loop)
        self._held: list[bytes] = []
        self._heard = self.started = self._loop.time()
        self.encrypted = False
        self._fresh = False  # input came since the session last advanced
        self._eof = False
        self._paused = False
        self._ending = False  # the session has said farewell
        self._stopping = False  # it is to, as soon as it is not busy
        self._transport: asyncio.Transport
        self._session: Session
        self._last_words: LastWords

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, and so does TLS on an implicit TLS port: greet."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        try:
            self._session = self._make()
        except Exception:  # a fault of ours, which must not keep the place
            log.exception("session not made", extra={"fields": self._about})
            self._state = _State.GONE
            self._transport.abort()
            self._ended(self)
            return
        session = self._session
        session.drain, session.pause, session.wake = self._drain, self._flow.rest, self._wake_soon
        self._state = _State.OPEN
        peer, handshake = self.peer, transport.get_extra_info("ssl_object")
        if handshake is not None and self._tls is not None:
            self.encrypted = True
            peer = replace(peer, tls=self._tls.describe(handshake))
        self._heard = self.started = self._loop.time()
        self._arm(min(self._session.timeout, self._session.lasts, self._timing.session))
        self._run(self._session.start(peer))

    def data_received(self, data: bytes) -> None:
        """Hand input to the session."""
        # hot: bench/accept
        if self._state is _State.OPEN:
            self._heard = self._loop.time()
            self._take(data)
            self._wake()
        elif self._state is _State.SHAKING:
            self._held.append(data)

    def eof_received(self) -> bool:
        """The peer sends no more; it may still read what we answer, except over TLS."""
        self._eof = True
        if self._state is _State.OPEN:
            self._session.receive_eof()
            self._wake()
        return self._state is _State.OPEN and not self.encrypted

    def pause_writing(self) -> None:
        """The peer reads too slowly: nothing more is said until it has caught up."""
        self._flow.choked = True

    def resume_writing(self) -> None:
        """The peer has read."""
        self._heard = self._loop.time()
        self._flow.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; the session is told when its present work is done."""
        before, self._state = self._state, _State.GONE
        if before in (_State.NEW, _State.GONE):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flow.end()
        if self._task is None:
            self._finish()
        elif not self._eof:
            self._eof = True
            self._session.receive_eof()
        if self._task is not None:
            self._session.lost()

    # What the worker asks.

    @property
    def working(self) -> bool:
        """True while a session is here, or its work goes on after the connection was lost."""
        return self._state in (_State.OPEN, _State.SHAKING, _State.CLOSING) or self._task is not None

    @property
    def session(self) -> Session | None:
        """The session, while one is here."""
        return self._session if self.working else None

    def stop(self) -> None:
        """Say farewell as soon as the session is not inside a transaction."""
        self._stopping = True
        self._stop_when_idle()

    def end(self, why: Ending) -> None:
        """Say farewell now, whatever the session does. A peer that does not even read is not waited for."""
        if self._state in (_State.OPEN, _State.SHAKING) and not self._ending:
            self._farewell(why)

    def abort(self) -> None:
        """Drop the connection, with what it still had to say."""
        if self._state not in (_State.NEW, _State.GONE):
            self._transport.abort()

    # The session's work.

    def _wake(self) -> None:
        self._fresh = True
        if self._task is None and self._state is _State.OPEN:
            self._fresh = False
            self._run(self._session.advance())

    def _wake_soon(self) -> None:
        """The session's hook: let it advance, in a turn of its own, so that calls never overlap."""
        self._loop.call_soon(self._wake_up)

    def _wake_up(self) -> None:
        heard, idle = self._heard, self._task is None
        self._wake()
        if idle and self._task is None:
            self._heard = heard  # the peer has said nothing, and is as silent as before

    def _run(self, call: Coroutine[Any, Any, Next]) -> None:
        self._task = begin(self._loop, self._work(call))

    async def _work(self, call: Coroutine[Any, Any, Next]) -> None:
        """Let the session work until it needs the peer; input may come meanwhile."""
        # hot: bench/accept
        try:
            while await self._follow(await call):
                self._fresh = False
                call = self._session.advance()
        except Exception as error:  # noqa: BLE001  `_fail` logs it
            self._fail(error)
        finally:
            self._task = None
            if self._state is _State.GONE:
                self._finish()

    async def _follow(self, wanted: Next) -> bool:
        """Do what the session asks for; True when it should advance again at once."""
        self._flush()
        self._stop_when_idle()
        if wanted is Next.CLOSE or self._ending:
            self._end()
            return False
        if wanted is Next.START_TLS and self._state is _State.OPEN:
            await self._shake_hands()
        if self._flow.choked:
            await self._flow.until_writable()
        if self._state is not _State.OPEN:
            return False
        if self._paused and self._session.wants_input:
            self._listen(True)
        if self._ending or (self._eof and not self._fresh):
            self._end()
            return False
        if not self._fresh:
            self._hasten()
        return self._fresh

    def _take(self, data: bytes) -> None:
        try:
            self._session.receive(data)
        except Exception as error:  # noqa: BLE001  `_fail` logs it
            self._fail(error)
            return
        if not self._session.wants_input:
            self._listen(False)

    def _listen(self, wanted: bool) -> None:
        """Read from the socket, or leave it to the kernel to slow the peer down."""
        if self._paused != wanted or self._transport.is_closing():
            return
        self._paused = not wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _flush(self) -> None:
        output = self._session.take_output()
        if output and self._state is _State.OPEN:
            self._outbox.write(self._transport, output)
        self._heard = self._loop.time()

    async def _drain(self) -> None:
        """The session's hook: write what it has said, wait until the peer has read most of it, let others work.

        Raises `ConnectionResetError` when the connection is gone.
        """
        self._flush()
        self._outbox.release(self._transport)
        if not await self._flow.until_writable():
            await self._flow.let_others_work()
        if self._state is _State.GONE:
            raise ConnectionResetError("the connection is gone")
        self._stop_when_idle()

    # STARTTLS.

    async def _shake_hands(self) -> None:
        """Change over to TLS; the connection is not open afterwards when that failed, or the peer went away.

        The session drops earlier input. Octets that arrive meanwhile belong to the handshake. Input inside TLS that
        arrives before `start_tls` returns (asyncio does that) is held back, since the old transport is still in place.
        """
        if self._tls is None or self._eof:
            self._end()
            return
        plain, self._state = self._transport, _State.SHAKING
        self._outbox.release(plain)
        plain.pause_reading()
        plain.set_write_buffer_limits(high=0)  # uvloop: a transport that still writes can't change over
        await self._flow.until_writable()
        if self._state is not _State.SHAKING:
            return
        try:
            encrypted = await self._tls.shake_hands(plain, self, self._timing)
        except OSError as error:
            fields = {**self._about, "reason": handshake_problem(error)}
            log.info("TLS handshake failed", extra={"fields": fields})
            plain.abort()
            self.connection_lost(error)
            return
        if self._state is _State.SHAKING and encrypted is not None:
            self._changed_over(encrypted)
        else:  # we have dropped it meanwhile, and the loop does not tell us so
            self.connection_lost(None)

    def _changed_over(self, encrypted: asyncio.Transport) -> None:
        assert self._tls is not None
        self._transport = encrypted
        self.encrypted = True
        self._paused = False
        self._state = _State.OPEN
        self._heard = self._loop.time()
        self._session.tls_started(self._tls.describe(encrypted.get_extra_info("ssl_object")))
        held, self._held = self._held, []
        for data in held:
            self._take(data)
        if self._eof:
            self._session.receive_eof()
        self._fresh = self._fresh or bool(held) or self._eof  # it may have been woken meanwhile

    # The clock.

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def _hasten(self) -> None:
        """Look at the clock sooner, when the session has less patience than before."""
        if self._timer is not None and self._timer.when() > self._heard + self._session.timeout:
            self._arm(self._session.timeout)

    def _look(self) -> None:
        """The timer: it is not moved at each read, but looks how long the peer has been silent."""
        self._timer = None
        now = self._loop.time()
        if self._state is _State.CLOSING:
            if self._last_words.arrive(now):  # slow, but it reads
                self._arm(self._timing.linger)
            else:
                self._transport.abort()
            return
        silent_until = self._heard + self._session.timeout
        lasts_until = self.started + min(self._timing.session, self._session.lasts)
        waiting = self._task is None or self._flow.waits_for_peer  # for the peer, and not for ourselves
        if now >= lasts_until or (waiting and now >= silent_until):
            self._farewell(Ending.TIMED_OUT)
            return
        patience = silent_until - now if silent_until > now else self._session.timeout
        self._arm(max(0.001, min(patience, lasts_until - now)))

    # The end.

    def _stop_when_idle(self) -> None:
        if self._stopping and not self._session.busy:
            self.end(Ending.STOPPING)

    def _farewell(self, why: Ending) -> None:
        self._ending = True
        self._flow.wake()
        if self._state is _State.SHAKING:  # nothing can be said in the middle of a handshake
            self._transport.abort()
            return
        try:
            self._session.shut_down(why)
        except Exception as error:  # noqa: BLE001  `_fail` logs it
            self._fail(error)
            return
        self._flush()
        if self._flow.waits_for_peer and why is not Ending.STOPPING:  # it does not even read
            self._transport.abort()
        elif self._task is None:
            self._end()

    def _fail(self, error: Exception) -> None:
        """A fault of ours: log it, write what the session has left to say, close."""
        if isinstance(error, ConnectionError) and self._state is _State.GONE:
            return  # what `drain` raised, let through
        log.error("session failed", exc_info=error, extra={"fields": self._about})
        if self._state is _State.OPEN:
            self._flush()
            self._end()

    def _end(self) -> None:
        """Close when everything is written."""
        if self._state is not _State.OPEN:
            return
        self._state = _State.CLOSING
        self._outbox.release(self._transport)
        if begin_to_close(self._transport, at_once=self.encrypted or self._eof):
            self._listen(True)
        until = self._loop.time() + self._timing.closing
        self._last_words = LastWords(self._transport, encrypted=self.encrypted, until=until)
        self._arm(self._timing.linger)

    def _finish(self) -> None:
        """The session's end, once: the connection is gone and nothing of it runs."""
        session, ended = self._session, self._ended
        session.drain = session.pause = session.wake = None  # circles less for the collector
        try:
            session.closed()
        except Exception:  # whoever wrote it, the place must be given back
            log.exception("session not closed", extra={"fields": self._about})
        ended(self)

    @property
    def _about(self) -> dict[str, object]:
        return {"peer": self.peer.address, "port": self.peer.local_port}
