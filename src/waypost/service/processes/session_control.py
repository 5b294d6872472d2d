"""Ends the sessions of accounts that were closed, and answers what commands ask about sessions.

A session whose account was disabled or removed, or has another password now, is ended. The worker hears of it by the
command that did it, which waits for the answer; by a notice on the bus; and where both were lost, by a slow sweep.
Whatever still runs commits nothing: the commit itself looks at the account's version (docs/decisions/0034).
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec

from waypost.message.trace import Micros
from waypost.protocol.session import Ending, LoggedIn
from waypost.service.processes.control_socket import worker_words
from waypost.service.processes.session_requests import EndAccountSessions, EndSessions, ListSessions
from waypost.service.sockets.connection import Connection
from waypost.service.sockets.connections import Connections
from waypost.storage import Directory, Notice, StorageError

log = logging.getLogger(__name__)

_SWEEP = 30.0  # seconds
_MOMENT = 0.01  # seconds in which notices gather: one look at all sessions serves them all

_read = msgspec.json.Decoder(ListSessions | EndSessions | EndAccountSessions).decode


class SessionControl:
    """Looks after the sessions of one worker."""

    def __init__(
        self,
        connections: Connections,
        directory: Directory,
        *,
        now: Callable[[], Micros],
        worker: int = 0,
        sweep: float = _SWEEP,
    ) -> None:
        self._connections = connections
        self._directory = directory
        self._now = now
        self._process = os.getpid()
        self._words = worker_words(worker, self._process)
        self._sweep = sweep
        self._loop = asyncio.get_running_loop()
        self._changed: set[str] = set()  # addresses of accounts to look at
        self._looking: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(sweep, self._look_at_all)
        self._soon: asyncio.TimerHandle | None = None

    def notified(self, notice: Notice) -> None:
        """An account or alias was changed: look, in a moment, whether it has sessions to be ended."""
        self._changed.add(notice.name)
        if self._soon is None:
            self._soon = self._loop.call_later(_MOMENT, self._look)

    async def close(self) -> None:
        """Look no more."""
        self._timer.cancel()
        if self._soon is not None:
            self._soon.cancel()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    def _look_at_all(self) -> None:
        self._timer = self._loop.call_later(self._sweep, self._look_at_all)
        self._changed.update(account.address for _, account in self._logged_in())
        self._look()

    def _look(self) -> None:
        self._soon = None
        if self._looking is None and self._changed:
            self._looking = self._loop.create_task(self._end_outdated())
            self._looking.add_done_callback(self._looked)

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("sessions not looked at", exc_info=error)
        self._look()  # for what was changed meanwhile

    async def _end_outdated(self) -> None:
        """End the sessions of the accounts that were changed and are not any more as they were at the login."""
        changed, self._changed = self._changed, set()
        by_address: dict[str, list[tuple[Connection, LoggedIn]]] = {}
        for connection, account in self._logged_in():
            if account.address in changed:
                by_address.setdefault(account.address, []).append((connection, account))
        await asyncio.gather(*(self._end_unless_current(address, found) for address, found in by_address.items()))

    async def _end_unless_current(self, address: str, found: list[tuple[Connection, LoggedIn]]) -> tuple[int, int]:
        """End those of an account's sessions that began before its last change; return how many, and how many of them
        still work. Where storage does not tell, they go on: its commits don't either, and the next sweep asks again.
        """
        try:
            now = await self._directory.account(address)
        except StorageError as error:
            log.warning("account not looked at", extra={"fields": {"account": address, "error": str(error)}})
            return 0, len(found)
        outdated = [
            connection
            for connection, account in found
            if now is None or now.disabled or (account.id, account.version) != (now.id, now.version)
        ]
        return await self._end(outdated, Ending.ACCOUNT_CHANGED, account=address)

    async def _end(self, chosen: list[Connection], why: Ending, **about: str) -> tuple[int, int]:
        if not chosen:
            return 0, 0
        left = await self._connections.end(chosen, why)
        fields = {**about, "reason": why.name.lower(), "sessions": len(chosen), "working": left}
        log.info("sessions ended", extra={"fields": fields})
        return len(chosen), left

    def _logged_in(self) -> Iterable[tuple[Connection, LoggedIn]]:
        for _, connection in self._connections.open:
            session = connection.session
            if session is not None and (account := session.account) is not None:
                yield connection, account

    # Commands.

    async def answer(self, request: bytes) -> AsyncIterator[dict[str, Any]]:
        """Answer what a command asks, by rows. Raises `msgspec.ValidationError` for what is no request."""
        match _read(request):
            case ListSessions():
                for number, connection in self._connections.open:
                    if (row := self._row(number, connection)) is not None:
                        yield row
            case EndSessions() as wanted:
                yield self._told(await self._end(list(self._chosen(wanted)), Ending.BY_OPERATOR))
            case EndAccountSessions(address):
                found = [pair for pair in self._logged_in() if pair[1].address == address]
                yield self._told(await self._end_unless_current(address, found))

    def _told(self, ended: tuple[int, int]) -> dict[str, Any]:
        return {"worker": self._words, "ended": ended[0], "working": ended[1]}

    def _row(self, number: int, connection: Connection) -> dict[str, Any] | None:
        session, peer = connection.session, connection.peer
        if session is None:
            return None
        account = session.account
        return {
            "id": self._id(number),
            "protocol": connection.protocol,
            "peer": peer.address,
            "port": peer.local_port,
            "tls": connection.encrypted,
            "account": account.address if account is not None else None,
            "began": self._now() - int((self._loop.time() - connection.started) * 1_000_000),
            "busy": session.busy,
        }

    def _id(self, number: int) -> str:
        """Return a session's name among those of all workers: none that ever was has the same, while the host is up."""
        return f"{self._process}.{number}"

    def _chosen(self, wanted: EndSessions) -> Iterable[Connection]:
        for number, connection in self._connections.open:
            session = connection.session
            if session is None:
                continue
            account = session.account.address if session.account is not None else None
            if wanted.wants(self._id(number), account, connection.peer.address):
                yield connection
