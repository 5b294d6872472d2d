"""Privileges: which user the workers run as, that the data directory is theirs, and how a process gives up the rest.

Only the supervisor stays root. A worker drops everything before it sees a byte from outside.
"""

import ctypes
import os
import pwd
import resource
import stat
from dataclasses import dataclass
from pathlib import Path

from waypost.disk.files import exists
from waypost.disk.folders import make_folder
from waypost.disk.ownership import whose
from waypost.service.machine.problems import SetupProblem, machine_words

_SERVICE_USER = "waypost"
_NOBODY = "nobody"
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to become, with all groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def service_identity(user: str | None, data: Path) -> Identity | None:
    """Return whom workers become, by the rules of `service.user`; None when this process is not root.

    Raises `SetupProblem`.
    """
    if os.geteuid() != 0:
        return None
    if user is not None:
        try:
            return _identity(pwd.getpwnam(user))
        except KeyError:
            raise SetupProblem(
                f"service.user: there is no user {user}; make it (useradd --system {user}), or write another"
            ) from None
    if exists(data) and (owner := data.stat()).st_uid != 0:
        try:
            return _identity(pwd.getpwuid(owner.st_uid))
        except KeyError:  # a number without a name, as in a container
            return Identity(str(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in (_SERVICE_USER, _NOBODY):
        try:
            return _identity(pwd.getpwnam(name))
        except KeyError:
            continue
    raise SetupProblem(f"service.user: this host has neither a user {_SERVICE_USER} nor {_NOBODY}; write one")


def _identity(user: pwd.struct_passwd) -> Identity:
    if user.pw_uid == 0:
        raise SetupProblem(f"service.user: {user.pw_name} is root; workers need a user without privileges")
    return Identity(user.pw_name, user.pw_uid, user.pw_gid, tuple(os.getgrouplist(user.pw_name, user.pw_gid)))


def own_data(data: Path, identity: Identity | None) -> None:
    """See that the data directory exists, belongs to the workers' user with all that is in it, and can be reached.

    Raises `SetupProblem`.
    """
    try:
        make_folder(data)
        if identity is None:
            return
        if data.stat().st_uid != identity.uid:
            _give(data, identity)
    except OSError as error:
        words = (
            whose(data, data)
            if isinstance(error, PermissionError)
            else f"{error.filename or data}: {machine_words(error)}"
        )
        raise SetupProblem(f"data: {words}") from None
    for folder in data.resolve().parents:
        if not _may_enter(folder.stat(), identity):
            raise SetupProblem(
                f"data: the user {identity.name} can't enter {folder}; allow it (chmod a+x), move the data "
                "directory, or set service.user"
            )


def _give(data: Path, identity: Identity) -> None:
    """Change the owner of everything below a folder that root owned so far; links are not followed."""
    # From below: the owner of the uppermost folder says that all is done.
    for _, folders, files, folder in os.fwalk(data, topdown=False, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, identity.uid, identity.gid, dir_fd=folder, follow_symlinks=False)
        os.fchown(folder, identity.uid, identity.gid)


def _may_enter(status: os.stat_result, identity: Identity) -> bool:
    if status.st_uid == identity.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid in (identity.gid, *identity.groups):
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def become(identity: Identity) -> None:
    """Give up root for good. Raises `OSError`."""
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)


def harden() -> None:
    """No new privileges by programs that are executed, no core file with mail and keys in it, no debugger of a
    neighbour with the same user. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def raise_file_limit() -> int:
    """Allow as many open files as the hard limit says; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
