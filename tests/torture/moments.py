"""Moments at which a kill hurts most: an answer is being made, or is on its way. Who kills waits for the next one."""

import asyncio
from enum import StrEnum


class Moment(StrEnum):
    """What has just happened between a host and somebody else."""

    MESSAGE_SENT = "a client has sent the end of a message"
    QUIT_SENT = "a client has sent QUIT, with messages marked"
    RELAY_ANSWERED = "the next server is about to answer for a relayed message"


class Moments:
    """Tells who waits, when it happens, to which host."""

    def __init__(self) -> None:
        self._waiting: dict[Moment, list[asyncio.Future[str]]] = {moment: [] for moment in Moment}

    def happen(self, moment: Moment, host: str) -> None:
        """It happens now."""
        waiting, self._waiting[moment] = self._waiting[moment], []
        for future in waiting:
            if not future.done():
                future.set_result(host)

    async def next(self, moment: Moment) -> str:
        """Wait for the next one; return the host's domain."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[moment].append(future)
        return await future
