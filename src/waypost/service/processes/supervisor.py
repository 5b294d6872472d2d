"""The supervisor: binds, reads secrets, starts workers and replaces them, reloads, stops. It touches no mail.

It alone may be root. A reload starts a new crew by the new configuration beside the old one, on the same sockets, and
only when all of it works does the old one stop accepting: its connections go on until they end.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from waypost import __version__, processors
from waypost.config.errors import ConfigErrors
from waypost.config.settings import SECOND, Settings
from waypost.counting import counted
from waypost.login.memory import LoginMemory
from waypost.service.machine.problems import SetupProblem
from waypost.service.machine.secrets import Secrets, read_secrets
from waypost.service.machine.trusted_networks import refuse_dangerous_networks
from waypost.service.processes.crew import Crew, CrewBroken
from waypost.service.processes.fork_server import ForkServer
from waypost.service.processes.notify import Notifier
from waypost.service.processes.orders import Orders, Word
from waypost.service.processes.privileges import own_data, service_identity
from waypost.service.processes.run_folder import RunFolder
from waypost.service.processes.state import ServiceState
from waypost.service.sockets.listeners import Bound, Listeners

log = logging.getLogger(__name__)

_PATIENCE = 3.0  # seconds for a port that a killed service still holds
_RELOAD_TIMEOUT = 120.0
_MARGIN = 15.0  # seconds beyond `stop_grace` for a worker to close its storage


@dataclass(frozen=True, slots=True)
class LogForm:
    """How the workers write their log."""

    json: bool
    colour: bool = False


class Supervisor:
    """One service on one data directory. `load` reads the configuration again."""

    def __init__(
        self,
        settings: Settings,
        *,
        forks: ForkServer,
        load: Callable[[], Settings],
        notifier: Notifier,
        log_form: LogForm,
    ) -> None:
        """Take the data directory and bind all listeners. Raises `SetupProblem`."""
        self._forks = forks
        self._settings = settings
        self._load = load
        self._notifier = notifier
        self._log_form = log_form
        self._state = ServiceState(datetime.now(UTC))
        self._generation = 0
        self._crew: Crew | None = None
        self._retired: list[Crew] = []
        self._identity = service_identity(settings.service.user, settings.data)
        refuse_dangerous_networks(settings)
        secrets = read_secrets(settings)
        own_data(settings.data, None)  # makes it, and no more
        self._run_folder = RunFolder(settings.data, self._identity)
        self._listeners = Listeners()
        try:
            self._run_folder.lock_service()  # before anything is given to another user: it may be a running service's
            own_data(settings.data, self._identity)
            self._login_memory = LoginMemory.create()
            self._secrets = replace(secrets, login=self._run_folder.login_secret(), login_memory=self._login_memory.key)
            self._listeners.bind(settings.listeners, patience=_PATIENCE).keep()
        except SetupProblem:
            self._run_folder.close()
            raise

    async def run(self) -> int:
        """Run the service until it is told to stop; return the exit status."""
        self._asked = asyncio.Event()
        self._stop = asyncio.Event()
        self._reload = False
        self._watch_signals()
        self._forks.attach(lost=self._asked.set)
        self._put_in_force()
        crew = self._crew = self._new_crew(self._settings, self._secrets, self._listeners.bound)
        watchdog = asyncio.create_task(self._content_watchdog())
        try:
            await self._unless_stopped(crew.ready())
            await self._serve()
            return 0
        except CrewBroken as broken:
            log.critical("service failed", extra={"fields": {"reason": str(broken)}})
            return 1
        finally:
            watchdog.cancel()
            await self._end()

    async def _serve(self) -> None:
        if not self._stop.is_set():
            log.info("service started", extra={"fields": {"version": __version__, **self._about()}})
            self._notifier.ready(self._status())
        while not self._stop.is_set():
            self._asked.clear()
            if self._forks.lost:
                raise CrewBroken("the fork server, which starts workers, has ended; start the service again")
            if self._crew is not None and self._crew.broken is not None:
                raise CrewBroken(self._crew.broken)
            if self._reload:
                self._reload = False
                await self._reload_once()
            else:
                await self._asked.wait()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for something, but no longer than until the service is told to stop."""
        stopped = asyncio.create_task(self._stop.wait())
        working = asyncio.create_task(work)
        try:
            await asyncio.wait({stopped, working}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            stopped.cancel()
            working.cancel()

    # What is asked of us.

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._ask_to_reload)

    def _ask_to_stop(self, number: signal.Signals) -> None:
        log.info("service stopping", extra={"fields": {"signal": number.name}})
        if self._stop.is_set():  # asked twice: in a hurry
            for crew in self._crews:
                crew.kill()
        self._stop.set()
        self._asked.set()

    def _ask_to_reload(self) -> None:
        self._reload = True
        self._asked.set()

    async def _content_watchdog(self) -> None:
        while self._notifier.watchdog is not None:
            self._notifier.alive()
            await asyncio.sleep(self._notifier.watchdog / 2)

    # Crews.

    @property
    def _crews(self) -> tuple[Crew, ...]:
        return (*self._retired, self._crew) if self._crew is not None else tuple(self._retired)

    def _new_crew(self, settings: Settings, secrets: Secrets, bound: tuple[Bound, ...]) -> Crew:
        self._generation += 1
        orders = Orders(
            generation=self._generation,
            settings=settings,
            secrets=secrets,
            identity=self._identity,
            listeners=(),
            json_log=self._log_form.json,
            colour_log=self._log_form.colour,
            login_memory=self._login_memory.fd,
        )
        workers = processors.count_workers(settings.service.workers)
        crew = Crew(self._forks, orders, bound, workers, changed=self._crew_changed)
        crew.start()
        return crew

    def _crew_changed(self) -> None:
        self._asked.set()
        self._retired = [crew for crew in self._retired if crew.processes]
        self._write_state()

    async def _reload_once(self) -> None:
        """Change over to the configuration as it is now; when that can't work, say why and stay as we are."""
        self._notifier.reloading()
        problems: tuple[object, ...] = ()
        try:
            await self._change_over()
        except ConfigErrors as errors:
            problems = errors.errors
        except SetupProblem as problem:
            problems = tuple(problem.problems)
        except CrewBroken as broken:
            problems = (broken,)
        except TimeoutError:
            problems = (f"the new workers were not ready after {_RELOAD_TIMEOUT:.0f} s",)
        except Exception as error:  # neither a fault of ours nor of the machine is a reason to end what works
            log.exception("reload failed by a fault of ours")
            problems = (f"{type(error).__name__}: {error}",)
        for words in problems:
            log.error("reload failed", extra={"fields": {"problem": str(words)}})
        self._state.reloaded([str(words) for words in problems], datetime.now(UTC))
        self._write_state()
        if not self._stop.is_set():
            self._notifier.ready(self._status())

    async def _change_over(self) -> None:
        settings = await asyncio.to_thread(self._load)
        if settings.data != self._settings.data:
            raise SetupProblem("data: the data directory can only be changed by a restart")
        if service_identity(settings.service.user, settings.data) != self._identity:
            raise SetupProblem("service.user: the user can only be changed by a restart")
        await asyncio.to_thread(refuse_dangerous_networks, settings)
        secrets = replace(
            await asyncio.to_thread(read_secrets, settings),
            login=self._secrets.login,
            login_memory=self._secrets.login_memory,
        )
        change = self._listeners.bind(settings.listeners)
        crew = self._new_crew(settings, secrets, change.bound)
        try:
            async with asyncio.timeout(_RELOAD_TIMEOUT):
                await self._unless_stopped(crew.ready())
        except Exception:  # whatever it is, told by who asked for the reload
            crew.give_up()
            self._retired.append(crew)
            change.drop()
            raise
        change.keep()
        before, self._crew = self._crew, crew
        self._settings, self._secrets = settings, secrets
        self._put_in_force()
        if before is not None:
            self._retired.append(before)
            before.tell(Word.RETIRE)
        self._write_state()
        log.info("service reloaded", extra={"fields": self._about()})

    async def _end(self) -> None:
        """Stop everything: gracefully, then for certain."""
        self._notifier.stopping()
        self._listeners.close()
        crews = self._crews
        for crew in crews:
            crew.tell(Word.STOP)
        ended = asyncio.gather(*(crew.ended() for crew in crews))
        try:
            await asyncio.wait_for(asyncio.shield(ended), self._settings.service.stop_grace / SECOND + _MARGIN)
        except TimeoutError:
            log.error("workers killed", extra={"fields": {"reason": "they did not end in time"}})
            for crew in crews:
                crew.kill()
            await ended
        self._forks.detach()
        self._run_folder.forget()
        self._run_folder.close()
        log.info("service stopped", extra={"fields": {"pid": os.getpid()}})

    # What is told.

    def _put_in_force(self) -> None:
        self._state.in_force(self._settings, self._secrets, datetime.now(UTC))
        self._run_folder.write_configuration(self._settings.source)

    def _about(self) -> dict[str, Any]:
        return {
            "generation": self._generation,
            "workers": len(self._crew.processes) if self._crew else 0,
            "listeners": [f"{bound.listener.protocol.value} {bound.address}" for bound in self._listeners.bound],
        }

    def _status(self) -> str:
        about = self._about()
        failed = "; the last reload FAILED" if self._state.failed_reload else ""
        return f"{counted(about['workers'], 'worker')}; {', '.join(about['listeners']) or 'no listeners'}{failed}"

    def _write_state(self) -> None:
        workers = {
            process.number: process.pid
            for crew in self._crews
            for process in crew.processes
            if process.number is not None
        }
        self._run_folder.write(
            {
                **self._state.as_json(),
                "generation": self._crew.generation if self._crew else 0,
                "workers": [{"number": number, "pid": pid} for number, pid in sorted(workers.items())],
                "listeners": [
                    {"protocol": bound.listener.protocol.value, "address": bound.address}
                    for bound in self._listeners.bound
                ],
            }
        )
