"""The bus of one machine: every process has a Unix datagram socket in one folder, and sends to all of them.

Notices of one loop iteration travel together, so that a burst of commits costs a datagram a process; and when the
others were told something a moment ago, they are told the next when that moment is over, all of it at once. What a full
socket does not take is kept for a moment and sent again; a notice that is lost is repaired by its receiver's slow
sweep. Sockets are reached through the folder's descriptor, since a socket's path may have only 107 octets.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from waypost.storage.bus import Bus, Notice

log = logging.getLogger(__name__)

_SUFFIX = ".sock"
_DATAGRAM = 32 * 1024
_PART = 250  # notices in a datagram; names are an address or a domain at most
_LISTING_AGE = 1.0  # seconds; the folder's time of change tells earlier, but is coarse
_MOMENT = 0.01  # seconds
_AGAIN_AFTER = 0.05  # seconds
_AGAIN_TIMES = 20
_MOST_LATE = 5000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[tuple[str, str]]).decode


class _Late:
    """Notices that a process's full socket did not take, in order and without repetition."""

    __slots__ = ("notices", "tries")

    def __init__(self) -> None:
        self.notices: dict[Notice, None] = {}
        self.tries = 0


class UnixBus(Bus):
    """One process's place on the bus: `folder/<name>.sock`, where `name` is this process's alone.

    `dropped` counts notices that could not be handed to another process.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._name = name + _SUFFIX
        self._handlers: dict[str, list[Callable[[Notice], None]]] = {}
        self._waiting: dict[Notice, None] = {}
        self._untold: dict[Notice, None] = {}  # to the others, who are told when the moment is over
        self._moment: asyncio.TimerHandle | None = None
        self._late: dict[str, _Late] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None
        self._directory = -1
        self._others: tuple[str, ...] = ()
        self._listed_at = float("-inf")
        self._changed_at = -1
        self.dropped = 0

    async def start(self) -> None:
        """Join the bus; makes the folder if it is missing. Raises `OSError`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._loop = asyncio.get_running_loop()
        self._directory = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):  # a process that had our name and died
                os.unlink(self._name, dir_fd=self._directory)
            self._socket.bind(self._path(self._name))
            os.chmod(self._name, 0o600, dir_fd=self._directory)
        except OSError:
            self.close()
            raise
        self._loop.add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Send the waiting notices, then leave. A second call does nothing."""
        if self._socket is None or self._loop is None:
            return
        self._flush()
        self._end_moment()
        self._loop.remove_reader(self._socket)
        for timer in (self._timer, self._moment):
            if timer is not None:
                timer.cancel()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._directory)
        self._socket.close()
        os.close(self._directory)
        self._socket = None

    def publish(self, notice: Notice) -> None:
        """Tell every process, this one included, at the end of this loop iteration; before `start` it tells nobody.

        When they were told something just now, others hear of it a few milliseconds later. Called in the event loop.
        """
        if self._socket is None or self._loop is None:
            return
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting[notice] = None

    def subscribe(self, topic: str, handler: Callable[[Notice], None]) -> None:
        """Call `handler` in the event loop for each notice of the topic."""
        self._handlers.setdefault(topic, []).append(handler)

    def _flush(self) -> None:  # hot: bench/relay
        notices, self._waiting = tuple(self._waiting), {}
        if not notices or self._socket is None or self._loop is None:
            return
        self._untold.update(dict.fromkeys(notices))
        if self._moment is None:
            self._begin_moment()
        for notice in notices:
            self._deliver(notice)

    def _begin_moment(self) -> None:
        assert self._loop is not None
        notices, self._untold = tuple(self._untold), {}
        self._tell_others(notices)
        self._moment = self._loop.call_later(_MOMENT, self._end_moment)

    def _end_moment(self) -> None:
        self._moment = None
        if self._untold:
            self._begin_moment()

    def _tell_others(self, notices: tuple[Notice, ...]) -> None:
        try:
            self._list()
        except OSError as error:
            self._drop(len(notices), str(error))
        for name in self._others:
            self._send(name, notices)

    def _list(self) -> None:
        """Look who is there, when somebody came or went."""
        assert self._loop is not None
        changed_at, now = os.fstat(self._directory).st_mtime_ns, self._loop.time()
        if changed_at == self._changed_at and now - self._listed_at < _LISTING_AGE:
            return
        self._others = tuple(
            name for name in os.listdir(self._directory) if name.endswith(_SUFFIX) and name != self._name
        )
        self._changed_at, self._listed_at = changed_at, now
        for name in self._late.keys() - set(self._others):
            del self._late[name]

    def _send(self, name: str, notices: tuple[Notice, ...]) -> None:
        late = self._late.get(name)
        if late is not None:  # after the notices that wait already
            self._keep(name, late, notices)
            return
        for start in range(0, len(notices), _PART):
            if not self._send_part(name, notices[start : start + _PART]):
                self._keep(name, self._late.setdefault(name, _Late()), notices[start:])
                return

    def _send_part(self, name: str, notices: tuple[Notice, ...]) -> bool:
        """Send one datagram; False when it must be tried again."""
        assert self._socket is not None
        octets = _encode([(notice.topic, notice.name) for notice in notices])
        if len(octets) > _DATAGRAM and len(notices) > 1:
            half = len(notices) // 2
            return self._send_part(name, notices[:half]) and self._send_part(name, notices[half:])
        try:
            self._socket.sendto(octets, self._path(name))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:  # its process died without taking it along
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._directory)
            elif error.errno != errno.ENOENT:
                self._drop(len(notices), f"{name}: {error}")
            self._listed_at = float("-inf")
        return True

    def _keep(self, name: str, late: _Late, notices: tuple[Notice, ...]) -> None:
        for notice in notices:
            late.notices[notice] = None
        while len(late.notices) > _MOST_LATE:
            del late.notices[next(iter(late.notices))]
            self.dropped += 1
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(_AGAIN_AFTER, self._try_again)

    def _try_again(self) -> None:
        self._timer = None
        waiting, self._late = self._late, {}
        for name, late in waiting.items():
            self._send(name, tuple(late.notices))
            still = self._late.get(name)
            if still is None:
                continue
            # What went out is progress: the count starts anew.
            still.tries = late.tries + 1 if len(still.notices) == len(late.notices) else 0
            if still.tries >= _AGAIN_TIMES:
                self._drop(len(still.notices), f"{name}: its process takes nothing")
                del self._late[name]

    def _drop(self, count: int, reason: str) -> None:
        self.dropped += count
        log.warning("notices lost", extra={"fields": {"count": count, "reason": reason}})

    def _receive(self) -> None:
        mine = self._socket
        if mine is None:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):  # a turn; the loop comes back when there is more
                octets = mine.recv(_DATAGRAM * 2)
                try:
                    pairs = _decode(octets)
                except msgspec.MsgspecError:
                    log.warning("notice unreadable", extra={"fields": {"octets": len(octets)}})
                    continue
                for topic, name in pairs:
                    self._deliver(Notice(topic, name))
                if mine.fileno() < 0:  # a handler closed us
                    return

    def _deliver(self, notice: Notice) -> None:
        for handler in self._handlers.get(notice.topic, ()):
            try:
                handler(notice)
            except Exception:  # one subscriber's fault must not silence the others
                log.exception("notice failed", extra={"fields": {"topic": notice.topic, "name": notice.name}})

    def _path(self, name: str) -> str:
        return f"/proc/self/fd/{self._directory}/{name}"
