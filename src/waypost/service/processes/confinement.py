"""Confinement: a worker gives up, for good, every part of the machine that it has no business with (landlock(7)).

Whoever takes a worker over through a fault in it has the worker's user, but reads no file of that user outside of the
data directory, runs no program, takes no port, and reaches no TCP service but mail and name servers. The kernel keeps
the list; a thread that is started later can only have less.
"""

import ctypes
import errno
import os
import ssl
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from waypost.config.settings import Settings

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls: the same on every architecture
_VERSION = 1  # a flag of the first: tell what you can
_RULE_PATH, _RULE_PORT = 1, 2
_OLDEST = 2  # the first version in which a file may move to another folder of ours; version 1 forbids it to all
_DNS_PORT = 53


class Right(IntFlag):
    """What may be done with files: bits of the kernel's interface, in the order in which it learned to ask for them."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13  # move or link to another folder; version 2
    TRUNCATE = 1 << 14  # version 3
    IOCTL_DEV = 1 << 15  # version 5


_READ = Right.READ_FILE | Right.READ_DIR
_KEEP = (
    _READ
    | (Right.WRITE_FILE | Right.TRUNCATE | Right.REFER)
    | (Right.MAKE_DIR | Right.MAKE_REG | Right.MAKE_SOCK)
    | (Right.REMOVE_DIR | Right.REMOVE_FILE)
)
_OF_FILES = Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE | Right.TRUNCATE | Right.IOCTL_DEV
_SINCE = {2: Right.REFER, 3: Right.TRUNCATE, 5: Right.IOCTL_DEV}
_BIND_TCP, _CONNECT_TCP, _NET_SINCE = 1 << 0, 1 << 1, 4
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS, _SCOPE_SINCE = 1 << 0, 1 << 1, 6

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_SYSTEM = ("/etc/resolv.conf", "/etc/localtime", "/usr/share/zoneinfo", "/proc/net", "/dev/urandom")
_CERTIFICATES = (
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
)


@dataclass(frozen=True, slots=True)
class Reach:
    """What stays within reach: paths to read, folders to keep files in, and the TCP ports of others.

    A path that does not exist is passed over: systems differ in what they have.
    """

    read: tuple[Path, ...]
    keep: tuple[Path, ...]
    ports: frozenset[int]


class Unconfined(Exception):
    """The kernel can't confine this process; the message says why."""


def reach_of(settings: Settings) -> Reach:
    """Return what a worker with this configuration needs."""
    ports = {settings.outbound.port, _DNS_PORT}
    ports |= {route.port for route in settings.routes}
    ports |= {port for _, port in settings.dns.servers}
    # Modules are imported, and quoted in tracebacks, long after the start. OpenSSL may be pointed at authorities of
    # the operator's own by its environment variables.
    trusted = ssl.get_default_verify_paths()
    read = (*sys.path, *_LIBRARIES, *_SYSTEM, *_CERTIFICATES, trusted.cafile, trusted.capath)
    return Reach(tuple(Path(path) for path in dict.fromkeys(read) if path), (settings.data,), frozenset(ports))


def confine(reach: Reach) -> int:
    """Give up everything else, in this thread and in all that it starts; returns the version of the kernel's interface.

    Call it before the first other thread, and after `harden`: the kernel asks for "no new privileges". What is open
    already stays open. Raises `Unconfined` where the kernel has no Landlock, or it is switched off; `OSError`.
    """
    version = _version()
    ruleset = _Ruleset(version)
    try:
        for path in reach.read:
            ruleset.allow(path, _READ)
        for path in reach.keep:
            ruleset.allow(path, _KEEP)
        ruleset.allow(Path("/dev/null"), Right.READ_FILE | Right.WRITE_FILE)
        ruleset.allow_ports(reach.ports)
        ruleset.enforce()
    finally:
        ruleset.close()
    return version


def _version() -> int:
    try:
        version = _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise Unconfined("this kernel has no Landlock") from None
        if error.errno == errno.EOPNOTSUPP:
            raise Unconfined("Landlock is switched off in this kernel (lsm= on its command line)") from None
        if error.errno == errno.EPERM:
            raise Unconfined("a filter of system calls around us forbids Landlock") from None
        raise
    if version < _OLDEST:
        raise Unconfined(f"version {version} of Landlock is too old (Linux 5.19 has {_OLDEST})")
    return version


class _Attributes(ctypes.Structure):
    """struct landlock_ruleset_attr: what is forbidden unless a rule allows it."""

    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("fd", ctypes.c_int32))


class _PortRule(ctypes.Structure):
    """struct landlock_net_port_attr."""

    _fields_ = (("rights", ctypes.c_uint64), ("port", ctypes.c_uint64))


class _Ruleset:
    """A list of rules on its way to the kernel, in the words that this version of it knows."""

    def __init__(self, version: int) -> None:
        unknown = Right(0)
        for since, right in _SINCE.items():
            if version < since:
                unknown |= right
        self._known = ~unknown
        self._nets = version >= _NET_SINCE
        scoped = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if version >= _SCOPE_SINCE else 0
        attributes = _Attributes(int(self._known), _BIND_TCP | _CONNECT_TCP if self._nets else 0, scoped)
        # An older kernel takes the structure if what it does not know in it is zero.
        self._fd = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), 0)

    def allow(self, path: Path, rights: Right) -> None:
        """Allow something with a path, and with all below it. Raises `OSError`."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return  # what is not there, or can't be reached, needs no rule
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                rights &= _OF_FILES
            rule = _PathRule(int(rights & self._known), fd)
            _call(_ADD_RULE, self._fd, _RULE_PATH, ctypes.byref(rule), 0)
        finally:
            os.close(fd)

    def allow_ports(self, ports: Iterable[int]) -> None:
        """Allow connections to these ports, from any port that the system chooses. Raises `OSError`."""
        if self._nets:
            for rights, port in ((_BIND_TCP, 0), *((_CONNECT_TCP, port) for port in ports)):
                rule = _PortRule(rights, port)
                _call(_ADD_RULE, self._fd, _RULE_PORT, ctypes.byref(rule), 0)

    def enforce(self) -> None:
        """From here on, the rules hold. Raises `OSError`."""
        _call(_RESTRICT_SELF, self._fd, 0)

    def close(self) -> None:
        """Forget the list; what is in force stays so."""
        os.close(self._fd)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
