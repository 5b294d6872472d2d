"""All connections of one worker, and how they come to an end together."""

import asyncio

from waypost.service.connection import Connection

_LAST_WORDS = 2.0  # seconds for farewells to arrive, before connections are dropped


class Connections:
    """The open connections, and those that still arrive (a PROXY header, a TLS handshake)."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._arriving: set[asyncio.Task[None]] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._open)

    def arriving(self, task: asyncio.Task[None]) -> None:
        """Keep a task that ends when its connection has arrived or failed to."""
        self._arriving.add(task)
        self._none.clear()
        task.add_done_callback(self._arrived)

    def add(self, connection: Connection) -> None:
        """A connection stands."""
        self._open.add(connection)
        self._none.clear()
        if self._stopping:
            connection.stop()

    def discard(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        self._look()

    async def gone(self) -> None:
        """Return when there are none."""
        await self._none.wait()

    async def stop(self, grace: float) -> None:
        """End all of them: those in a transaction may finish it within `grace` seconds, the others go at once."""
        self._stopping = True
        for task in tuple(self._arriving):
            task.cancel()
        for step, patience in ((Connection.stop, grace), (Connection.hurry, _LAST_WORDS), (Connection.abort, 1.0)):
            for connection in tuple(self._open):
                step(connection)
            try:
                await asyncio.wait_for(self.gone(), patience)
            except TimeoutError:
                continue
            return

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._arriving.discard(task)
        self._look()

    def _look(self) -> None:
        if not self._open and not self._arriving:
            self._none.set()
