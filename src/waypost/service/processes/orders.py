"""What the supervisor and a worker say to each other, over one socket pair.

The supervisor sends descriptors, then the orders, pickled, and later single words. A worker, which speaks with the
world and may be taken over by it, is only ever believed lines of JSON. When the socket ends, the other one is dead.
"""

import errno
import json
import os
import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from waypost.config.settings import Listener, Settings
from waypost.service.machine.secrets import Secrets
from waypost.service.processes.privileges import Identity

_LENGTH = struct.Struct("!Q")
_AT_ONCE = 250  # descriptors: the kernel takes 253 with one message (unix(7))


class Word(Enum):
    """What a supervisor tells a worker that runs."""

    RETIRE = b"R"  # accept no more connections, let those that are open go on, then end
    STOP = b"S"  # end, gracefully


@dataclass(frozen=True, slots=True)
class Orders:
    """All that a worker needs to begin.

    `listeners` are those of the configuration with the descriptors of their sockets; `login_memory` is the descriptor
    of the memory of logins that workers share. The supervisor gives its own descriptors, and a worker is handed copies.
    `place` is the worker's place in its crew, from 0.
    """

    generation: int
    settings: Settings
    secrets: Secrets
    identity: Identity | None
    listeners: tuple[tuple[Listener, int], ...]
    json_log: bool
    colour_log: bool = False
    place: int = 0
    login_memory: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker tells: it is `ready` under its `number`, or it `failed` and why; `hopeless`: another would, too."""

    ready: bool
    number: int = -1
    problem: str = ""
    hopeless: bool = False


def write_orders(orders: Orders) -> bytes:
    """Return the octets that a worker reads first."""
    octets = pickle.dumps(orders)
    return _LENGTH.pack(len(octets)) + octets


def send_descriptors(control: socket.socket, orders: Orders) -> None:
    """Hand a worker the descriptors that its orders name, before the orders. Raises `OSError`."""
    descriptors = _descriptors(orders)
    first = _LENGTH.pack(len(descriptors))
    for start in range(0, max(len(descriptors), 1), _AT_ONCE):
        socket.send_fds(control, [first if start == 0 else b"+"], descriptors[start : start + _AT_ONCE])


def _descriptors(orders: Orders) -> list[int]:
    shared = [] if orders.login_memory is None else [orders.login_memory]
    return [*(fd for _, fd in orders.listeners), *shared]


def read_report(line: bytes) -> WorkerReport | None:
    """Read a worker's line; None for one that makes no sense."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # the latter for lists in lists in lists
        return None
    if isinstance(value, dict) and isinstance(value.get("ready"), int):
        return WorkerReport(True, number=value["ready"])
    if isinstance(value, dict) and isinstance(value.get("failed"), str):
        return WorkerReport(False, problem=value["failed"], hopeless=value.get("hopeless") is True)
    return None


class Control:
    """The worker's end."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def fileno(self) -> int:
        """The descriptor, to wait for words on."""
        return self._socket.fileno()

    def orders(self) -> Orders:
        """Wait for the orders. Raises `EOFError` when the supervisor is dead, `OSError` when descriptors got lost."""
        descriptors = self._handed()
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        orders = pickle.loads(self._exactly(length))
        assert isinstance(orders, Orders)
        listeners = tuple((listener, fd) for (listener, _), fd in zip(orders.listeners, descriptors, strict=False))
        memory = None if orders.login_memory is None else descriptors[-1]
        return replace(orders, listeners=listeners, login_memory=memory)

    def _handed(self) -> list[int]:
        octets, descriptors = self._some_descriptors(_LENGTH.size)
        (count,) = _LENGTH.unpack(octets + self._exactly(_LENGTH.size - len(octets)))
        while len(descriptors) < count:
            descriptors += self._some_descriptors(1)[1]
        return descriptors

    def _some_descriptors(self, octets: int) -> tuple[bytes, list[int]]:
        said, descriptors, flags, _ = socket.recv_fds(self._socket, octets, _AT_ONCE)
        if not said:
            raise EOFError("the supervisor is gone")
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return said, list(descriptors)

    def _exactly(self, octets: int) -> bytes:
        parts = bytearray()
        while len(parts) < octets:
            part = self._socket.recv(octets - len(parts))
            if not part:
                raise EOFError("the supervisor is gone")
            parts += part
        return bytes(parts)

    def ready(self, number: int) -> None:
        """Tell that this worker accepts connections."""
        self._say({"ready": number})

    def failed(self, problem: str, *, hopeless: bool = False) -> None:
        """Tell why this worker ends; `hopeless`: only an operator can mend it."""
        self._say({"failed": problem, "hopeless": hopeless})

    def _say(self, value: dict[str, Any]) -> None:
        try:
            self._socket.sendall(json.dumps(value).encode() + b"\n")
        except OSError:  # nobody is left to hear it; the end of the socket says so, too
            return

    def hear(self, tell: Callable[[Word], None]) -> None:
        """Read the waiting words, and call `tell` for each; the supervisor's death counts as STOP."""
        try:
            octets = self._socket.recv(64)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        for octet in octets:
            tell(Word(bytes([octet])))
        if not octets:
            tell(Word.STOP)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def nonblocking(self) -> None:
        """From now on, `hear` is called when there is something."""
        self._socket.setblocking(False)
