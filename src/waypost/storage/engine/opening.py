"""Opening a storage: the settings choose the engine. There is one, which embeds SQLite; the next one is chosen here."""

from collections.abc import Callable
from typing import Protocol

from waypost.config.settings import Settings
from waypost.message.trace import Micros
from waypost.storage import Storage
from waypost.storage.bus import Notice
from waypost.storage.sqlite import open_storage as open_sqlite
from waypost.storage.sqlite.opening.migrate import migrations

MONTH = 30 * 24 * 3600 * 1_000_000


class OpenStorage(Protocol):
    """A storage that one process has opened. `storage` has the parts."""

    @property
    def storage(self) -> Storage:
        """The parts."""
        ...

    @property
    def commits(self) -> int:
        """Group commits so far."""
        ...

    async def failed(self) -> None:
        """Return when nothing can be written any more, by a fault that only another process mends."""
        ...

    async def maintain(self, *, now: Micros | None = None, journal_age: Micros = MONTH) -> None:
        """Do the housekeeping once: space is given back, and what is old goes. For one process, every so often.

        `now` is the time by which it is old. Raises `StorageError`, `OSError`.
        """
        ...

    async def close(self) -> None:
        """Write all waiting operations, then close everything."""
        ...


async def open_storage(
    settings: Settings, *, now: Callable[[], Micros], worker: int, publish: Callable[[Notice], None]
) -> OpenStorage:
    """Open the storage that the settings name, making it or bringing its schema up to date when needed.

    `worker` is this process's number; `publish` is told what changed, after each commit. Raises `StorageError`.
    """
    return await open_sqlite(
        settings.data,
        now=now,
        worker=worker,
        publish=publish,
        memory_per_message=settings.limits.memory_per_message,
    )


def load() -> None:
    """Read what the engine needs of the program's files: a process that gives up root can't always do that later."""
    migrations()
