"""Before a process opens the storage: its folders, its schema, and that nobody uses it with another schema."""

import fcntl
import os
from pathlib import Path

from waypost.storage.errors import StorageError
from waypost.storage.sqlite.migrate import DATABASE, migrate, pending
from waypost.storage.sqlite.segments import sync_folder

FOLDERS = ("segments", "locks")


def prepare(data: Path) -> int:
    """Make the storage under `data` ready to be opened; returns the descriptor of the lock that says it is in use.

    The caller holds it open as long as it uses the storage. Raises `StorageError`, `OSError`, `apsw.Error`.
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
        fcntl.flock(in_use, fcntl.LOCK_SH)
    except BaseException:
        os.close(in_use)
        raise
    finally:
        os.close(one_at_a_time)
    return in_use


def _make_folders(data: Path) -> None:
    if not data.is_dir():
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(data.parent)  # not otherwise: the service's user may have no right to read it
    made = False
    for folder in (data / name for name in FOLDERS):
        if not folder.is_dir():
            folder.mkdir(exist_ok=True, mode=0o700)
            made = True
    if made:
        sync_folder(data)
