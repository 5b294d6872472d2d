"""One worker of a service in this process: put together by `service/assembly.py`, with real sockets and real storage.

A test opens it, talks to its listeners, breaks something, and asks `tests/faults/ledger.py` where the mail is. Names
resolve nowhere and time-outs are short, unless the test says otherwise.
"""

import asyncio
import dataclasses
import functools
import socket
from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from waypost.config.settings import (
    SECOND,
    Dns,
    Limits,
    Listener,
    ListenerProtocol,
    Outbound,
    QueueSettings,
    Route,
    Service,
    Settings,
    Submission,
    Tls,
)
from waypost.login.passwords import make_credentials
from waypost.message.trace import Micros
from waypost.service.assembly import Assembly, assemble, wall_clock
from waypost.service.machine.certificates import self_signed
from waypost.service.machine.secrets import Secrets
from waypost.service.sockets.acceptor import Acceptor
from waypost.service.sockets.timing import Timing
from waypost.storage import Account, Credentials, Filter, QueueEntry, Storage

HOSTNAME = "mx.here.test"
ALICE = "alice@here.test"
BOB = "bob@here.test"
PASSWORD = "curiouser and curiouser"
NOWHERE = (IPv4Address("127.0.0.1"), 9)
"""A name server that is not there."""

_ENDLESS = 1_000_000


@functools.cache
def certificate() -> tuple[bytes, bytes]:
    """The certificate of every office of a test run, and its key."""
    return self_signed([HOSTNAME], datetime.now(UTC))


@functools.cache
def credentials() -> Credentials:
    """What is stored of everybody's password: made once, since that is meant to be slow."""
    return make_credentials(PASSWORD)


class Clock:
    """A wall clock that runs, and can be set: `step` is how far it is off, in microseconds."""

    def __init__(self) -> None:
        self.step: Micros = 0

    def __call__(self) -> Micros:
        return wall_clock() + self.step


def settings_for(folder: Path, **changes: Any) -> Settings:
    """Return the settings of an office; `changes` replace sections, or values of theirs in a dictionary."""
    settings = Settings(
        path=folder / "waypost.toml",
        hostname=HOSTNAME,
        domains=("here.test",),
        data=folder / "data",
        tls=Tls(folder / "cert.pem", folder / "key.pem"),
        dns=Dns((NOWHERE,), timeout=SECOND // 2),
        outbound=Outbound(connect_timeout=2 * SECOND, command_timeout=2 * SECOND, data_timeout=2 * SECOND),
        queue=QueueSettings(retry=(SECOND // 5,), jitter=0.0, delayed_notice=0),
        limits=Limits(command_timeout=30 * SECOND, memory_per_message=256 * 1024),
        submission=Submission(_ENDLESS, _ENDLESS, _ENDLESS, _ENDLESS),
        service=Service(stop_grace=2 * SECOND),
    )
    for name, value in changes.items():
        if isinstance(value, dict):
            changes[name] = dataclasses.replace(getattr(settings, name), **value)
    return dataclasses.replace(settings, **changes)


def route(domain: str, port: int) -> Route:
    """Return the way to a domain whose server is in this process."""
    return Route(domains=(domain,), host="[127.0.0.1]", port=port)


class Office:
    """Opens and closes; what is stored stays in its folder. `number` is the worker's."""

    def __init__(self, settings: Settings, *, now: Clock | None = None, number: int = 0) -> None:
        self.settings = settings
        self.now = now or Clock()
        self.number = number
        self.timing = Timing(session=300.0, handshake=5.0, linger=1.0)
        self._assembly: Assembly | None = None
        self._acceptors: dict[ListenerProtocol, tuple[Acceptor, socket.socket]] = {}
        self._dispatching: asyncio.Task[None] | None = None

    async def open(self, *, dispatch: bool = True) -> "Office":
        """Open the storage and the listening sockets; `dispatch`: mail in the queue goes out.

        Raises what `assemble` raises.
        """
        self.settings.data.mkdir(parents=True, exist_ok=True)
        pem, key = certificate()
        secrets = Secrets(pem, key, login=bytes(32))
        self._assembly = await assemble(self.settings, secrets, number=self.number, now=self.now)
        if dispatch:
            self.dispatch()
        return self

    def dispatch(self) -> None:
        """Let mail go out from now on."""
        self._dispatching = asyncio.create_task(self.assembly.dispatcher.run())

    async def staff(self, *addresses: str) -> None:
        """Add accounts, ALICE and BOB by default."""
        for address in addresses or (ALICE, BOB):
            await self.storage.directory.add_account(address, credentials(), quota=0, now=self.now())

    @property
    def assembly(self) -> Assembly:
        """The worker's parts."""
        assert self._assembly is not None
        return self._assembly

    @property
    def storage(self) -> Storage:
        """The parts of the storage."""
        return self.assembly.storage.storage

    @property
    def admitted(self) -> int:
        """How many connections have a place now."""
        return self.assembly.listening.admission.open

    @property
    def dispatching(self) -> bool:
        """True while the dispatcher runs."""
        return self._dispatching is not None and not self._dispatching.done()

    def port(self, protocol: str, **listener: Any) -> int:
        """Return the port of a protocol's door, which is opened when it is first asked for."""
        kind = ListenerProtocol(protocol)
        if kind not in self._acceptors:
            listening = socket.create_server(("127.0.0.1", 0), reuse_port=True, backlog=4096)
            listening.setblocking(False)
            house = dataclasses.replace(self.assembly.listening, timing=self.timing)
            place = Listener(kind, ip_address("127.0.0.1"), listening.getsockname()[1], **listener)
            door = Acceptor(place, listening, house, self.assembly.sessions[kind])
            door.open()
            self._acceptors[kind] = door, listening
        return int(self._acceptors[kind][1].getsockname()[1])

    async def empty(self) -> None:
        """Return when no connection has a place any more."""
        async with asyncio.timeout(30):
            await self.assembly.listening.connections.gone()
        assert self.admitted == 0

    async def account(self, address: str) -> Account:
        """Return an account."""
        found = await self.storage.directory.account(address)
        assert found is not None
        return found

    async def queued(self) -> list[QueueEntry]:
        """Return what is in the queue."""
        return [entry async for entry in self.storage.queue.entries(Filter(), now=self.now())]

    async def drained(self, to: int = 0) -> None:
        """Return when the queue is empty, or has no more than so many entries."""
        async with asyncio.timeout(60):
            while await self.storage.queue.count(Filter(), now=self.now()) > to:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Stop as a worker does; may be called twice."""
        if self._assembly is None:
            return
        assembly, self._assembly = self._assembly, None
        for door, listening in self._acceptors.values():
            door.close()
            listening.close()
        self._acceptors.clear()
        async with assembly.closing:
            await assembly.listening.connections.stop(0.5)
            if self._dispatching is not None:
                await assembly.dispatcher.stop(1.0)
                await self._dispatching
                self._dispatching = None

    async def __aenter__(self) -> "Office":
        return await self.open()

    async def __aexit__(self, *error: object) -> None:
        await self.close()
