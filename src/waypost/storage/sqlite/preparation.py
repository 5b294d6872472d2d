"""Before a process opens the storage: its folders, its schema, and octets that a power loss left in the database alone.

Nobody may use it with another schema meanwhile.
"""

import contextlib
import fcntl
import logging
import os
from pathlib import Path

import apsw

from waypost.storage.errors import StorageError
from waypost.storage.files import try_lock
from waypost.storage.folders import make_folder, sync_folder
from waypost.storage.sqlite.connection import connect
from waypost.storage.sqlite.copies import restore
from waypost.storage.sqlite.migrate import DATABASE, migrate, pending

log = logging.getLogger(__name__)

FOLDERS = ("segments", "locks")


def prepare(data: Path) -> int:
    """Make the storage under `data` ready to be opened; returns the descriptor of the lock that says it is in use.

    The caller holds it open as long as it uses the storage, and syncs `data` before it writes. Raises `StorageError`,
    `OSError`, `apsw.Error`.
    """
    _make_folders(data)
    one_at_a_time = os.open(data / "migrate.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    in_use = os.open(data / "in-use.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        alone = try_lock(in_use)
        if pending(data):
            if not alone:
                raise StorageError(
                    f"{data / DATABASE}: its schema must be changed for this version, and a running process uses it: "
                    "stop the service first"
                )
            migrate(data)
            # Who made the data directory may have been killed before its name was durable.
            with contextlib.suppress(PermissionError):  # then it was made, and its name synced, by another user
                sync_folder(data.parent)
        if alone:
            _restore(data)
        fcntl.flock(in_use, fcntl.LOCK_SH)
    except BaseException:
        os.close(in_use)
        raise
    finally:
        os.close(one_at_a_time)
    return in_use


def _restore(data: Path) -> None:
    """Write octets back that may have been lost with the power. Where others use the storage, that was done."""
    connection = connect(data / DATABASE)
    try:
        with connection:
            restore(connection, data / "segments")
    except (apsw.Error, StorageError) as error:  # a full disk must not keep anybody from making room on it
        log.error("octets not written back; they stay in the database", extra={"fields": {"error": str(error)}})
    finally:
        connection.close()


def _make_folders(data: Path) -> None:
    make_folder(data)
    for name in FOLDERS:  # these names are made durable with that of the database's log
        (data / name).mkdir(exist_ok=True, mode=0o700)
