"""Whether this process may use the files of a data directory; if not, who owns them and which command mends that."""

import os
import pwd
import shlex
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from waypost.disk.files import exists, is_folder


def forbidden(paths: Iterable[Path]) -> Path | None:
    """Return the first existing path that this process can't read and write; None when it can use all of them.

    A file may vanish meanwhile, as the log of a database does when another process closes it.
    """
    for path in paths:
        try:
            if not exists(path):
                continue
            wanted = os.R_OK | (os.X_OK if is_folder(path) else 0)
            if not os.statvfs(path).f_flag & os.ST_RDONLY:  # a read-only file system is reported elsewhere
                wanted |= os.W_OK
            if not os.access(path, wanted, effective_ids=True) and exists(path):
                return path
        except FileNotFoundError:
            continue
        except PermissionError:
            return path
    return None


def whose(path: Path, data: Path) -> str:
    """Return a text that names the owner of a path in a data directory, our own user, and the command that mends it.

    In our own data directory, the remedy gives a foreign file to us. In the directory of another user, we may run as
    the wrong user: only the user of the service should own it.
    """
    me = user_name(os.geteuid())
    remedy = f"chown -R {me}: {shlex.quote(str(data))}"
    if not _is_ours(data):
        remedy = f"run this as root, or if the service is to run as {me}: {remedy}"
    try:
        owner = path.stat()
    except OSError as error:
        return f"{path}: {os.strerror(error.errno or 0)}; this process is {me}: {remedy}"
    if owner.st_uid == os.geteuid():  # so it is the mode
        remedy = f"chmod -R u+rwX {shlex.quote(str(data))}"
    return (
        f"{path} belongs to {user_name(owner.st_uid)} (mode {owner.st_mode & 0o777:03o}), and this process is {me}, "
        f"which can't use it: {remedy}"
    )


def _is_ours(data: Path) -> bool:
    try:
        return data.stat().st_uid == os.geteuid()
    except OSError:
        return False


@cache
def user_name(number: int) -> str:
    """Return the name of a user, or the number of one without a name.

    A worker must call it before it confines itself; afterwards it can't read the names any more.
    """
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
