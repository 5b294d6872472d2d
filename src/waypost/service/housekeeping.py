"""Housekeeping: one worker of all gives the storage's space back and forgets what is old, every minute.

How old something is must not be told by a clock that somebody has just set ahead by mistake: what is forgotten does not
come back when the clock does.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from waypost.config.settings import DAY, MINUTE, SECOND
from waypost.message.trace import Micros
from waypost.service.processes.run_folder import RunFolder
from waypost.storage import StorageError
from waypost.storage.engine.opening import OpenStorage

log = logging.getLogger(__name__)

_EVERY = 60.0  # seconds


class CautiousClock:
    """A wall clock that was set ahead is believed a day later; one that was set back, at once.

    `now` is the wall clock, `monotonic` gives seconds that nobody sets.
    """

    def __init__(self, now: Callable[[], Micros], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._monotonic = monotonic
        self._wall, self._at = now(), monotonic()
        self._ahead_since: float | None = None

    def __call__(self) -> Micros:
        """Return the time, or the last one that was believed, carried on."""
        wall, at = self._now(), self._monotonic()
        carried = self._wall + int((at - self._at) * SECOND)
        if wall > carried + MINUTE:  # a clock that is slewed (RFC 5905) never comes near it
            if self._ahead_since is None:
                self._ahead_since = at
            if at - self._ahead_since < DAY / SECOND:
                return carried
        self._wall, self._at, self._ahead_since = wall, at, None
        return wall


class Housekeeper:
    """Does the housekeeping when this is the process that does; what goes wrong is tried again a minute later."""

    def __init__(
        self, storage: OpenStorage, folder: RunFolder, *, journal_age: Micros, now: Callable[[], Micros]
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._journal_age = journal_age
        self._clock = CautiousClock(now)
        self._mine = False
        self._retired = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled, or told to retire."""
        while not self._retired.is_set():
            try:
                await asyncio.wait_for(self._retired.wait(), _EVERY)
            except TimeoutError:
                await self.once()
        self._folder.give_maintenance()

    def retire(self) -> None:
        """End after the round that runs: others keep the house from now on, by a newer configuration."""
        self._retired.set()

    async def once(self) -> None:
        """Do it once; what goes wrong is logged."""
        now = self._clock()
        try:
            self._mine = self._mine or self._folder.take_maintenance()
            if self._mine:
                await self._storage.maintain(now=now, journal_age=self._journal_age)
        except (StorageError, OSError) as error:
            log.warning("housekeeping failed", extra={"fields": {"error": str(error)}})
        except Exception:  # its fault must cost nobody's mail
            log.exception("housekeeping failed by a fault of ours")
