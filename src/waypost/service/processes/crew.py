"""The crew: the worker processes of one generation, that is, of one configuration; who dies is replaced.

A worker that dies again and again before it was ready is a fault that a restart does not mend: the crew is broken. But
once all were ready, it is the machine's (a disk that is full, say): the others go on, and the restarts do, too.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

from waypost.service.processes.fork_server import Forked, ForkServer
from waypost.service.processes.orders import Orders, Word, WorkerReport, read_report, send_descriptors, write_orders
from waypost.service.sockets.listeners import Bound

log = logging.getLogger(__name__)

_TRIES = 5  # deaths in a row before a worker was ready
_STEADY = 10.0  # seconds of life after which a death is no longer one of a row
_FIRST_WAIT = 0.2
_LONGEST_WAIT = 30.0


class CrewBroken(Exception):
    """A generation can't work; the message says why."""


class WorkerProcess:
    """One process: from its orders to its end."""

    def __init__(
        self,
        forks: ForkServer,
        process: Forked,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        heard: Callable[[], None],
    ) -> None:
        self._forks = forks
        self._process = process
        self._reader = reader
        self._writer = writer
        self._heard = heard
        self.number: int | None = None  # known when it is ready
        self.problem = ""
        self.hopeless = False

    @classmethod
    async def start(cls, forks: ForkServer, orders: Orders, heard: Callable[[], None]) -> "WorkerProcess":
        """Start a process and hand it its orders, with the listening sockets. `heard` is called when it is ready or
        says why it is not. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await forks.fork(theirs)
            send_descriptors(ours, orders)
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()  # the worker, if there is one, ends by this
            raise
        writer.write(write_orders(orders))
        return cls(forks, process, reader, writer, heard)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def end(self) -> str:
        """Listen to the process until it ends; return in words how it ended."""
        try:
            while line := await self._reader.readline():
                self._hear(read_report(line))
        except (OSError, ValueError) as error:  # ValueError: a line without end
            log.warning("worker not understood", extra={"fields": {"pid": self.pid, "error": str(error)}})
        status = await self._process.ended
        self._writer.close()
        return "nobody knows how" if status is None else _words(os.waitstatus_to_exitcode(status))

    def _hear(self, report: WorkerReport | None) -> None:
        if report is not None and report.ready:
            self.number = report.number
        elif report is not None:
            self.problem, self.hopeless = report.problem, report.hopeless
        self._heard()

    def tell(self, word: Word) -> None:
        """Tell the worker something; one that is dead does not mind."""
        self._writer.write(word.value)

    def kill(self) -> None:
        """End the process at once."""
        self._forks.kill(self.pid)


def _words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


class Crew:
    """`workers` processes with the same orders except listeners and place.

    `changed` is called when one comes or goes.
    """

    def __init__(
        self,
        forks: ForkServer,
        orders: Orders,
        bound: Sequence[Bound],
        workers: int,
        *,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._forks = forks
        self._orders = orders
        self._bound = tuple(bound)
        self._changed = changed
        self._workers = workers
        self._processes: dict[int, WorkerProcess] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._complete = False
        """All workers were ready at once."""
        self.broken: str | None = None

    @property
    def generation(self) -> int:
        """The number of the configuration that it works by."""
        return self._orders.generation

    @property
    def processes(self) -> tuple[WorkerProcess, ...]:
        """The processes that live."""
        return tuple(self._processes[place] for place in sorted(self._processes))

    def start(self) -> None:
        """Start all processes."""
        self._tasks = [asyncio.create_task(self._keep(place)) for place in range(self._workers)]
        for task in self._tasks:
            task.add_done_callback(self._look)

    async def ready(self) -> None:
        """Return when every worker accepts connections. Raises `CrewBroken`."""
        while True:
            self._news.clear()
            if self.broken is not None:
                raise CrewBroken(self.broken)
            ready = [process for process in self.processes if process.number is not None]
            if len(ready) == self._workers:
                self._complete = True
            if self._complete or self._over.is_set():
                return
            await self._news.wait()

    def tell(self, word: Word) -> None:
        """End the crew: by letting its connections go on, or soon. Nobody is replaced any more."""
        self._over.set()
        self._news.set()
        for process in self.processes:
            process.tell(word)

    def give_up(self) -> None:
        """End a crew that does not get ready: who accepts connections already lets them go on."""
        self._over.set()
        self._news.set()
        for process in self.processes:
            if process.number is not None:
                process.tell(Word.RETIRE)
            else:
                process.kill()

    def kill(self) -> None:
        """End the crew at once."""
        self._over.set()
        self._news.set()
        for process in self.processes:
            process.kill()

    async def ended(self) -> None:
        """Return when no process of it lives."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _keep(self, place: int) -> None:
        """Keep one place of the crew filled."""
        loop = asyncio.get_running_loop()
        row = unready = 0
        while not self._over.is_set():
            began = loop.time()
            process, how = await self._one(place)
            if self._over.is_set():
                return
            was_ready = process is not None and process.number is not None
            unready = 0 if was_ready else unready + 1
            row = 0 if was_ready and loop.time() - began >= _STEADY else row + 1
            problem = (process.problem if process else "") or how
            wait = min(_FIRST_WAIT * 2 ** min(row - 2, 16), _LONGEST_WAIT) if row > 1 else 0.0
            fields = {"pid": process and process.pid, "number": process and process.number, "how": how}
            log.error("worker died", extra={"fields": {**fields, "problem": problem, "restart_in": wait}})
            if process is not None and process.hopeless and not self._complete:
                self.broken = problem
                self._tell_news()
                return
            if unready >= _TRIES and not self._complete:
                self.broken = f"a worker died {unready} times before it was ready: {problem}"
                self._tell_news()
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), wait)

    def _look(self, task: asyncio.Task[None]) -> None:
        """A place that is no longer kept, by a fault of ours, is no reason to go on with fewer workers unnoticed."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a place of the crew is lost", exc_info=error)
            self.broken = f"{type(error).__name__}: {error}"
            self._tell_news()

    async def _one(self, place: int) -> tuple[WorkerProcess | None, str]:
        """Start one process and wait for its end."""
        listeners = tuple((bound.listener, bound.socket.fileno()) for bound in self._bound)
        try:
            orders = replace(self._orders, listeners=listeners, place=place)
            process = await WorkerProcess.start(self._forks, orders, self._tell_news)
        except OSError as error:
            return None, f"it could not be started: {error}"
        self._processes[place] = process
        if self._over.is_set():  # the end came while it was being started
            process.tell(Word.STOP)
        self._tell_news()
        try:
            return process, await process.end()
        finally:
            del self._processes[place]
            self._tell_news()

    def _tell_news(self) -> None:
        self._news.set()
        self._changed()
