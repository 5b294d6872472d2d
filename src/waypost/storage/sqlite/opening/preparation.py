"""Before a process opens the storage: its folders, its schema, whether its parts belong together (`taking_up.py`), and
octets that a power loss left in the database alone.

Nobody may use it with another schema meanwhile.
"""

import contextlib
import fcntl
import logging
import os
from pathlib import Path

import apsw

from waypost.disk.files import try_lock
from waypost.disk.folders import make_folder, sync_folder
from waypost.message.trace import Micros
from waypost.storage.errors import StorageError, Unfit
from waypost.storage.sqlite.commit.copies import restore
from waypost.storage.sqlite.connection import connect
from waypost.storage.sqlite.opening.migrate import DATABASE, migrate, pending
from waypost.storage.sqlite.opening.taking_up import accept, refuse_foreign, refuse_unfit, take_up

log = logging.getLogger(__name__)

FOLDERS = ("segments", "locks")


def prepare(data: Path, now: Micros, *, accepted: bool = False) -> int:
    """Make the storage under `data` ready to be opened; returns the descriptor of the lock that says it is in use.

    The caller holds it open as long as it uses the storage, and syncs `data` before it writes. `accepted`: go on with
    what is there, though its parts do not fit. Raises `StorageError`, `OSError`, `apsw.Error`.
    """
    refuse_foreign(data)
    _make_folders(data)
    one_at_a_time = os.open(data / "migrate.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    in_use = os.open(data / "in-use.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        alone = try_lock(in_use)
        if alone:
            if accepted:
                accept(data, now)
            else:
                refuse_unfit(data)
        if _pending(data):
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
            _take_up(data, now, accepted)
        fcntl.flock(in_use, fcntl.LOCK_SH)
    except BaseException:
        os.close(in_use)
        raise
    finally:
        os.close(one_at_a_time)
    return in_use


def _pending(data: Path) -> bool:
    try:
        return bool(pending(data))
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise Unfit(
            f"{data / DATABASE} is damaged ({error}): `waypost restore DIR` brings a backup back, and `waypost storage "
            "recover DIR` whatever can be read"
        ) from error


def _take_up(data: Path, now: Micros, accepted: bool) -> None:
    """Look whether the parts fit, and write octets back that may have been lost with the power.

    Where others use the storage, that was done.
    """
    connection = connect(data / DATABASE)
    try:
        take_up(data, connection, now, accepted=accepted)
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
