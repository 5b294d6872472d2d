"""How every part of this engine opens the database, and how its errors are told to the rest of the program."""

from pathlib import Path

import apsw

from waypost.storage.errors import Damaged, StorageError, StorageFull
from waypost.storage.sqlite.segments.segments import storage_error

BUSY_MILLISECONDS = 30_000
"""How long a statement waits for what another process holds."""

REFUSALS = (apsw.CorruptError, apsw.NotADBError, apsw.ConstraintError, apsw.MismatchError)
"""What SQLite says again each time that the same rows are touched."""

LOOK = ": run `waypost storage check`"
"""How a message ends that tells of damage."""

_UNREADABLE = frozenset(
    {
        apsw.SQLITE_IOERR_READ,
        apsw.SQLITE_IOERR_SHORT_READ,
        apsw.SQLITE_IOERR_DATA,
        apsw.SQLITE_IOERR_CORRUPTFS,
    }
)

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",  # a commit is on disk when it returns
    "wal_autocheckpoint=0",  # the checkpointer does it, in a thread of its own
    "cache_size=-16000",
    "temp_store=MEMORY",
)


def connect(path: Path, *, busy_milliseconds: int = BUSY_MILLISECONDS) -> apsw.Connection:
    """Open the database for reading and writing."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(busy_milliseconds)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def connect_reading(path: Path) -> apsw.Connection:
    """Open the database for reading alone: a statement that would change something fails."""
    connection = connect(path)
    connection.execute("PRAGMA query_only=ON").fetchall()
    return connection


def translate(error: BaseException) -> BaseException:
    """Return the storage error for what SQLite or the system said; other errors (bugs) as they are."""
    if isinstance(error, apsw.FullError | apsw.ReadOnlyError | apsw.CantOpenError):
        return StorageFull(f"the database: {error}")
    if isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
        return StorageFull(f"the database's index of its log: {error}")  # no space to make it larger
    if isinstance(error, REFUSALS) or getattr(error, "extendedresult", 0) in _UNREADABLE:
        return Damaged(f"the database: {type(error).__name__}: {error}{LOOK}")
    if isinstance(error, apsw.Error):
        return StorageError(f"the database: {type(error).__name__}: {error}")
    if isinstance(error, OSError):
        return storage_error(error, "the storage")
    if isinstance(error, UnicodeDecodeError):  # a text with a flipped bit
        return Damaged(f"a text of the database can't be read{LOOK}")
    if isinstance(error, MemoryError):
        return StorageError("there is not enough memory")
    return error
