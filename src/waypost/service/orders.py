"""What the supervisor and a worker say to each other, over one socket pair.

The supervisor sends the orders once, pickled, and later single words. A worker, which speaks with the world and may be
taken over by it, is only ever believed lines of JSON. When the socket ends, the other one is dead.
"""

import json
import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from waypost.config.settings import Listener, Settings
from waypost.service.privileges import Identity
from waypost.service.secrets import Secrets

_LENGTH = struct.Struct("!Q")


class Word(Enum):
    """What a supervisor tells a worker that runs."""

    RETIRE = b"R"  # accept no more connections, let those that are open go on, then end
    STOP = b"S"  # end, gracefully


@dataclass(frozen=True, slots=True)
class Orders:
    """All that a worker needs to begin.

    `doors` are listeners with the descriptors of their sockets in the worker; `place` is its place in its crew, from 0;
    `login_memory` is the descriptor of what workers share of logins.
    """

    generation: int
    settings: Settings
    secrets: Secrets
    identity: Identity | None
    doors: tuple[tuple[Listener, int], ...]
    json_log: bool
    colour_log: bool = False
    place: int = 0
    login_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells: it is `ready` under its `number`, or it `failed` and why; `hopeless`: another would, too."""

    ready: bool
    number: int = -1
    problem: str = ""
    hopeless: bool = False


def write_orders(orders: Orders) -> bytes:
    """Return the octets that a worker reads first."""
    octets = pickle.dumps(orders)
    return _LENGTH.pack(len(octets)) + octets


def read_report(line: bytes) -> Report | None:
    """Read a worker's line; None for one that makes no sense."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # the latter for lists in lists in lists
        return None
    if isinstance(value, dict) and isinstance(value.get("ready"), int):
        return Report(True, number=value["ready"])
    if isinstance(value, dict) and isinstance(value.get("failed"), str):
        return Report(False, problem=value["failed"], hopeless=value.get("hopeless") is True)
    return None


class Control:
    """The worker's end."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def fileno(self) -> int:
        """The descriptor, to wait for words on."""
        return self._socket.fileno()

    def orders(self) -> Orders:
        """Wait for the orders. Raises `EOFError` when the supervisor is dead."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        orders = pickle.loads(self._exactly(length))
        assert isinstance(orders, Orders)
        return orders

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
        """Read what came, and call `tell` for each word; the supervisor's death is a STOP."""
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
