"""A worker: `work` in a process that the fork server forks, with its orders from the supervisor on a socket.

It gives up root and all that it has no need of (`confinement.py`), then opens the storage, the sockets and the
dispatcher, and says that it is ready. It ends when the supervisor says so or dies: gracefully, with every transaction
that can still be finished.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable
from typing import Any

from waypost import processors
from waypost.config.settings import DAY, SECOND
from waypost.disk.ownership import user_name
from waypost.login.memory import LoginMemory
from waypost.service.assembly import Assembly, assemble, wall_clock
from waypost.service.housekeeping import Housekeeper
from waypost.service.machine.logging import set_up
from waypost.service.machine.problems import SetupProblem
from waypost.service.processes.confinement import Unconfined, confine, reach_of
from waypost.service.processes.orders import Control, Orders, Word
from waypost.service.processes.privileges import become, harden
from waypost.service.processes.run_folder import RunFolder
from waypost.service.sockets.acceptor import Acceptor
from waypost.service.sockets.tls import TlsProblem
from waypost.storage import StorageError, Unfit

log = logging.getLogger(__name__)

_GARBAGE = 10_000  # objects more than before: then the collector looks for circles


def work(descriptor: int) -> int:
    """Be a worker until told otherwise by the supervisor, at the other end of the socket with this descriptor.

    Returns the exit status: 0 after a stop, 1 when it could not begin or go on.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # the terminal tells the whole group; the supervisor tells us
        signal.signal(number, signal.SIG_IGN)
    control = Control(descriptor)
    handler: logging.Handler | None = None
    try:
        orders = control.orders()
        confined = _give_up_rights(orders)
        handler = set_up(orders.json_log, colour=orders.colour_log)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(Worker(orders, control, confined).run())
        return 0
    except (SetupProblem, StorageError, TlsProblem, OSError, EOFError) as error:
        control.failed(_words(error), hopeless=isinstance(error, Unfit))
        return 1
    except Exception as error:
        log.exception("worker failed")
        control.failed(f"{type(error).__name__}: {error}")
        return 1
    finally:
        control.close()
        if handler is not None:
            handler.close()


def _give_up_rights(orders: Orders) -> int | str:
    """Give up what a worker must not have; returns what `confine` says, or why there is no confinement.

    This comes before the first thread (that of the log): a thread that is there already would keep its rights.
    Raises `OSError`.
    """
    for uid in (0, os.geteuid() if orders.identity is None else orders.identity.uid):
        user_name(uid)
    if orders.identity is not None:
        become(orders.identity)
    harden()
    os.umask(0o077)
    try:
        return confine(reach_of(orders.settings))
    except Unconfined as problem:
        return str(problem)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import Loop
    except ImportError:
        return None
    return Loop


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


class Worker:
    """One worker's life: begin, serve, retire or stop."""

    def __init__(self, orders: Orders, control: Control, confined: int | str) -> None:
        self._settings = orders.settings
        self._orders = orders
        self._control = control
        self._confined = confined
        self._stop = asyncio.Event()
        self._retire = asyncio.Event()

    async def run(self) -> None:
        """Serve until the end. Raises what kept it from beginning: `SetupProblem`, `StorageError`, `OSError`,
        `TlsProblem`; any other error is a fault of ours."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        self._control.nonblocking()
        loop.add_reader(self._control, self._hear)
        folder = RunFolder(self._settings.data)
        try:
            # By the place, not the number: after a reload, numbers have gaps where older workers still end.
            processors.keep_to_one(self._orders.place, processors.count_workers(self._settings.service.workers))
            number = folder.take_number()
            secrets, memory = self._orders.secrets, _login_memory(self._orders)
            assembly = await assemble(self._settings, secrets, number=number, now=wall_clock, memory=memory)
            async with assembly.closing:
                await self._serve(assembly, number, folder)
        finally:
            folder.close()
            loop.remove_reader(self._control)

    def _hear(self) -> None:
        self._control.hear(self._told)

    def _told(self, word: Word) -> None:
        event = self._stop if word is Word.STOP else self._retire
        event.set()

    async def _serve(self, assembly: Assembly, number: int, folder: RunFolder) -> None:
        grace = self._settings.service.stop_grace / SECOND
        connections, dispatcher = assembly.listening.connections, assembly.dispatcher
        dispatching = asyncio.create_task(dispatcher.run())
        age = self._settings.service.journal_days * DAY
        housekeeper = Housekeeper(assembly.storage, folder, journal_age=age, now=wall_clock)
        housekeeping = asyncio.create_task(housekeeper.run())
        acceptors = self._open_acceptors(assembly)
        _spare_the_collector()
        self._control.ready(number)
        fields = {"number": number, "generation": self._orders.generation}
        log.info("worker ready", extra={"fields": fields})
        if isinstance(self._confined, str) and number == 0:  # once is enough: it is so for all of them
            log.warning("workers not confined", extra={"fields": {"reason": self._confined}})
        failing = asyncio.create_task(assembly.storage.failed())
        await _first(self._stop.wait(), self._retire.wait(), dispatching, failing)
        for acceptor, sock in acceptors:
            acceptor.close()
            sock.close()
        log.info("worker ending", extra={"fields": {**fields, "connections": len(connections)}})
        if not (self._stop.is_set() or dispatching.done() or failing.done()):  # retired: others do the rest now
            housekeeper.retire()
            await _first(self._stop.wait(), failing, asyncio.gather(dispatcher.stop(grace), connections.gone()))
        failed = failing.done()
        await asyncio.gather(connections.stop(grace), dispatcher.stop(grace))
        for task in (housekeeping, failing):
            task.cancel()
        await asyncio.wait({housekeeping, failing, dispatching})
        dispatching.result()  # a fault of ours that ended it ends us too
        if failed:
            raise StorageError("the storage's writer ended; the log says why")

    def _open_acceptors(self, assembly: Assembly) -> list[tuple[Acceptor, socket.socket]]:
        acceptors = []
        for listener, fd in self._orders.listeners:
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            acceptor = Acceptor(listener, sock, assembly.listening, assembly.sessions[listener.protocol])
            acceptor.open()
            acceptors.append((acceptor, sock))
        return acceptors


def _login_memory(orders: Orders) -> LoginMemory | None:
    """Return what all workers share of logins; None: this one has it for itself."""
    if orders.login_memory is None or orders.secrets.login_memory is None:
        return None
    return LoginMemory(orders.login_memory, orders.secrets.login_memory)


def _spare_the_collector() -> None:
    """What is loaded now stays for ever, and sessions end without circles: there is little for it to find."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE, 10, 10)


async def _first(*waits: Awaitable[Any]) -> None:
    """Return when one of them is done; those that were begun here are cancelled, a task of somebody else is not."""
    tasks = [wait if isinstance(wait, asyncio.Task) else asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, wait in zip(tasks, waits, strict=True):
            if task is not wait:
                task.cancel()
