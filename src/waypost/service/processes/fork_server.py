"""The fork server: a process that has loaded all that a worker needs, and forks one whenever the supervisor asks.

Workers forked from it share its memory until they write to it (docs/decisions/0041). It is itself forked before the
supervisor reads a secret, opens a file or starts a thread, so a worker inherits none of these. It must stay so: it has
no thread, no event loop and no descriptor but three standard streams and the socket to the supervisor.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn, TypeVar

from waypost.service.processes.packing import pack
from waypost.service.processes.preload import preload

_T = TypeVar("_T")
Work = Callable[[int], int]
"""What a forked process does: it is given the descriptor of its control socket, and returns its exit status."""

_OF_THE_MANAGER = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
"""A terminal and some service managers send them to the whole group. The supervisor ends the fork server."""
_PR_SET_NAME = 15
_MESSAGE = struct.Struct("!cii")  # kind, process id, wait status or errno


class _Kind(Enum):
    FORK = b"F"  # to the fork server, with a descriptor: fork a worker for it
    KILL = b"K"  # to the fork server: end a worker at once
    FORKED = b"P"  # from it: a worker lives
    FAILED = b"E"  # from it: a worker could not be forked
    ENDED = b"X"  # from it: a worker has ended


@dataclass(frozen=True, slots=True)
class Forked:
    """A forked process. `ended` gives its wait status (os.waitstatus_to_exitcode), None when nobody can tell."""

    pid: int
    ended: asyncio.Future[int | None]


class ForkServer:
    """The supervisor's end: it asks for workers and hears how they end."""

    def __init__(self, pid: int, requests: socket.socket) -> None:
        self.pid = pid
        self.lost = False
        """The process has ended by itself: no worker can be started any more."""
        self._socket = requests
        self._asked: deque[asyncio.Future[Forked]] = deque()
        self._living: dict[int, asyncio.Future[int | None]] = {}
        self._told: Callable[[], None] = lambda: None

    @classmethod
    def start(cls, work: Work) -> "ForkServer":
        """Load what workers need, and fork the fork server; each process that it forks later does `work`.

        Raises `OSError`; `RuntimeError` when this process has other threads, whose locks a fork would copy.
        """
        preload()
        pack()
        _only_one_thread()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
        pid = os.fork()
        if pid == 0:
            _exit_with(lambda: _be_fork_server(theirs, work, mask))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        ours.setblocking(False)
        return cls(pid, ours)

    def attach(self, lost: Callable[[], None]) -> None:
        """Listen in the running event loop; `lost` is called when the process ends by itself."""
        self._told = lost
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    async def fork(self, control: socket.socket) -> Forked:
        """Have a worker forked that has this socket as its control socket. Raises `OSError`."""
        if self.lost:
            raise OSError(errno.ECHILD, "the fork server has ended")
        socket.send_fds(self._socket, [_MESSAGE.pack(_Kind.FORK.value, 0, 0)], [control.fileno()])
        asked: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        return await asked

    def kill(self, pid: int) -> None:
        """End a worker at once; one that has ended does not mind, nor does another process that got its number."""
        if pid not in self._living:
            return
        if not self.lost:
            with contextlib.suppress(OSError):  # it has just ended; `_hear` will be told
                self._socket.send(_MESSAGE.pack(_Kind.KILL.value, pid, 0))
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def detach(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._socket)

    def close(self) -> None:
        """End the fork server. Workers that still live hear of it by their control sockets."""
        self._socket.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)  # it holds nothing that needs an orderly end, and may be stopped
            os.waitpid(self.pid, 0)

    def _hear(self) -> None:
        try:
            octets = self._socket.recv(_MESSAGE.size)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self._lose()
            return
        kind, pid, number = _MESSAGE.unpack(octets)
        match _Kind(kind):
            case _Kind.FORKED:
                self._living[pid] = asyncio.get_running_loop().create_future()
                _settle(self._asked.popleft(), Forked(pid, self._living[pid]))
            case _Kind.FAILED:
                _fail(self._asked.popleft(), OSError(number, os.strerror(number)))
            case _Kind.ENDED:
                _settle(self._living.pop(pid), number)

    def _lose(self) -> None:
        self.lost = True
        self.detach()
        for asked in self._asked:
            _fail(asked, OSError(errno.ECHILD, "the fork server has ended"))
        self._asked.clear()
        for ended in self._living.values():
            _settle(ended, None)
        self._told()


def _settle(future: asyncio.Future[_T], value: _T) -> None:
    if not future.done():  # whoever asked may have been cancelled
        future.set_result(value)


def _fail(future: asyncio.Future[Forked], error: OSError) -> None:
    if not future.done():
        future.set_exception(error)


def _only_one_thread() -> None:
    try:
        threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:  # no /proc
        threads = threading.active_count()
    if threads != 1:
        raise RuntimeError(f"a process with {threads} threads must not fork")


# In the forked processes.


def _exit_with(work: Callable[[], int]) -> NoReturn:
    """Do the whole work of a forked process: nothing of its parent's call stack may run in it."""
    status = 1
    try:
        status = work()
    except BaseException:  # noqa: BLE001  there is nobody above us
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):  # a stream that is closed or full
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _be_fork_server(requests: socket.socket, work: Work, mask: Iterable[int]) -> int:
    """Fork workers until the supervisor is gone; returns the exit status, a worker's in a worker.

    `mask` are the signals that were blocked before the fork.
    """
    _leave_the_supervisor(requests.fileno())
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _name_process(b"waypost-forker")
    server = _Server(requests)
    while server.serve():
        if (control := server.child) is not None:
            _name_process(b"waypost-worker")
            return work(control)
    return 0


def _leave_the_supervisor(kept: int) -> None:
    """Give up what the supervisor was started with and no worker needs: descriptors, signals, the manager's words."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    for name in _OF_THE_MANAGER:
        os.environ.pop(name, None)
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of the script, or the current one: no worker may read it for that


def _name_process(name: bytes) -> None:
    """Set what `ps -o comm` shows, 15 octets at most."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name, 0, 0, 0)


class _Server:
    """The fork server's end."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._living: set[int] = set()
        self.child: int | None = None
        """In a worker that has just been forked: the descriptor of its control socket."""
        self._wakeup, self._woken = socket.socketpair()
        self._wakeup.setblocking(False)
        self._woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)

    def serve(self) -> bool:
        """Wait for a request or the end of a worker, and see to it; False when the supervisor is gone."""
        ready, _, _ = select.select([self._requests, self._woken], [], [])
        try:
            if self._woken in ready:
                self._woken.recv(4096)
                self._reap()
            return self._requests not in ready or self._hear()
        except (BrokenPipeError, ConnectionResetError):
            return False

    def _reap(self) -> None:
        for pid in tuple(self._living):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._living.discard(pid)
                self._say(_Kind.ENDED, pid, status)

    def _hear(self) -> bool:
        octets, descriptors, _, _ = socket.recv_fds(self._requests, _MESSAGE.size, 1)
        if not octets:
            return False
        kind, pid, _ = _MESSAGE.unpack(octets)
        if _Kind(kind) is _Kind.KILL:
            if pid in self._living:  # not reaped yet, so the number is still its own
                os.kill(pid, signal.SIGKILL)
        elif descriptors:
            os.set_inheritable(descriptors[0], False)
            self._fork(descriptors[0])
        else:  # the kernel could not hand it over
            self._say(_Kind.FAILED, 0, errno.EMFILE)
        return True

    def _fork(self, control: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            os.close(control)
            self._say(_Kind.FAILED, 0, error.errno or errno.EAGAIN)
            return
        if pid:
            os.close(control)
            self._living.add(pid)
            self._say(_Kind.FORKED, pid, 0)
            return
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for sock in (self._requests, self._wakeup, self._woken):
            sock.close()
        self._living.clear()
        self.child = control

    def _say(self, kind: _Kind, pid: int, number: int) -> None:
        self._requests.send(_MESSAGE.pack(kind.value, pid, number))
