"""Before a process opens the storage: its folders, its schema, and that nobody uses it with another schema."""

import contextlib
import fcntl
import os
from pathlib import Path

from waypost.storage.errors import StorageError
from waypost.storage.folders import make_folder, sync_folder
from waypost.storage.sqlite.migrate import DATABASE, migrate, pending

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
        if pending(data):
            try:
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError(
                    f"{data / DATABASE}: its schema must be changed for this version, and a running process uses it: "
                    "stop the service first"
                ) from None
            migrate(data)
            # Who made the data directory may have been killed before its name was durable.
            with contextlib.suppress(PermissionError):  # then it was made, and its name synced, by another user
                sync_folder(data.parent)
        fcntl.flock(in_use, fcntl.LOCK_SH)
    except BaseException:
        os.close(in_use)
        raise
    finally:
        os.close(one_at_a_time)
    return in_use


def _make_folders(data: Path) -> None:
    make_folder(data)
    for name in FOLDERS:  # these names are made durable with that of the database's log
        (data / name).mkdir(exist_ok=True, mode=0o700)
