"""The whole of one worker, put together on one page: every dependency is made here, and handed over.

Read it to see the machine: storage and what is asked of it by everybody; the way out; the ways in, and mailboxes.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from waypost.access.pop3_form import SentForms
from waypost.config.listener_protocols import ListenerProtocol
from waypost.config.settings import SECOND, Settings
from waypost.delivery.book import address_book
from waypost.delivery.local import LocalDelivery
from waypost.delivery.plan import Planner
from waypost.delivery.resolve import LOCAL_DESTINATION, AddressBook
from waypost.dns import StubResolver, system_servers
from waypost.intake import Acceptance, TransactionTasks
from waypost.intake.memory import ArrivingMemory
from waypost.login.desk import LoginDesk
from waypost.login.memory import LoginMemory
from waypost.message.trace import Micros, TraceId, TraceIdMaker
from waypost.queue import Carrier, Dispatcher, Reporter, Schedule
from waypost.reception import ReverseNames
from waypost.service.machine.own_addresses import own_addresses
from waypost.service.machine.secrets import Secrets
from waypost.service.processes.bus import UnixBus
from waypost.service.processes.control_socket import ControlSocket
from waypost.service.processes.session_control import SessionControl
from waypost.service.reports import make_reporter
from waypost.service.session_makers import Make, SessionParts
from waypost.service.sockets.acceptor import ListeningContext
from waypost.service.sockets.admission import ConnectionAdmission
from waypost.service.sockets.connections import Connections
from waypost.service.sockets.outbox import Outbox
from waypost.service.sockets.timing import Timing
from waypost.storage import Storage, StorageError, Watchers
from waypost.storage.engine.opening import OpenStorage, open_storage
from waypost.transport.public import is_public
from waypost.transport.relay import Relay
from waypost.transport.router import Router

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assembly:
    """A worker's parts. `sessions` makes one for a connection on a listener of that protocol; `closing` ends all."""

    storage: OpenStorage
    dispatcher: Dispatcher
    sessions: Mapping[ListenerProtocol, Make]
    listening: ListeningContext
    closing: AsyncExitStack


@dataclass(frozen=True, slots=True)
class _Shared:
    """What both ways need."""

    settings: Settings
    number: int
    now: Callable[[], Micros]
    ids: Callable[[], TraceId]
    bus: UnixBus
    storage: Storage
    book: AddressBook
    planner: Planner
    reporter: Reporter
    memory: LoginMemory | None
    resolver: StubResolver
    closing: AsyncExitStack


async def assemble(
    settings: Settings,
    secrets: Secrets,
    *,
    number: int,
    now: Callable[[], Micros],
    memory: LoginMemory | None = None,
) -> Assembly:
    """Make the worker of that number; nothing runs yet. `memory` is what workers share of logins.

    Raises `StorageError`, `OSError`, `TlsProblem`.
    """
    async with AsyncExitStack() as closing:
        bus = UnixBus(settings.data / "bus", f"worker-{number}-{os.getpid()}")
        await bus.start()
        closing.callback(bus.close)
        opened = await open_storage(settings, now=now, worker=number, publish=bus.publish)
        closing.push_async_callback(opened.close)
        storage = opened.storage
        ids = TraceIdMaker(number, now, after=await _newest(storage))
        book = address_book(settings, storage.directory)
        reporter = make_reporter(settings, spool=storage.spool, book=book, ids=ids, now=now)
        resolver = StubResolver(settings.dns.servers or system_servers(), timeout=settings.dns.timeout / SECOND)
        closing.push_async_callback(resolver.close)
        planner = Planner(book)
        shared = _Shared(settings, number, now, ids, bus, storage, book, planner, reporter, memory, resolver, closing)
        timing = Timing(session=settings.limits.session_time / SECOND)
        listening = ListeningContext(
            ConnectionAdmission(settings.limits), Connections(), timing, Outbox(), secrets.tls()
        )
        dispatcher = _way_out(shared, secrets)
        sessions = _ways_in(shared, secrets).makers()
        await _look_after_sessions(shared, listening.connections)
        return Assembly(opened, dispatcher, sessions, listening, closing.pop_all())


async def _newest(storage: Storage) -> TraceId:
    """Return the newest trace id; a table that is damaged keeps nobody from starting."""
    try:
        return await storage.journal.newest()
    except StorageError as error:
        log.error("newest trace id not found", extra={"fields": {"error": str(error)}})
        return TraceId(0)


def _way_out(shared: _Shared, secrets: Secrets) -> Dispatcher:
    """The queue's dispatcher, with the two carriers that it hands destinations to."""
    settings, storage, now = shared.settings, shared.storage, shared.now
    router = Router(
        routes=settings.routes,
        outbound=settings.outbound,
        resolver=shared.resolver,
        hostname=settings.hostname,
        own_addresses=own_addresses(settings.listeners),
        passwords=secrets.passwords,
    )
    relay = Relay(router=router, spool=storage.spool, outbound=settings.outbound, hostname=settings.hostname, now=now)
    shared.closing.push_async_callback(relay.close)
    local = LocalDelivery(shared.book, shared.planner, hostname=settings.hostname, now=now)

    def carrier_for(destination: str) -> Carrier:
        return local if destination == LOCAL_DESTINATION else relay

    return Dispatcher(
        queue=storage.queue,
        carrier_for=carrier_for,
        reporter=shared.reporter,
        schedule=Schedule.from_settings(settings.queue),
        owner=shared.number,
        bus=shared.bus,
        now=now,
        random=random.Random(),
        apart=(LOCAL_DESTINATION,),
        answered=relay.answered_lately,
        pacing=relay.pacing,
    )


def _ways_in(shared: _Shared, secrets: Secrets) -> SessionParts:
    """What the sessions on the listeners share."""
    settings, storage = shared.settings, shared.storage
    desk = LoginDesk(
        storage.directory,
        storage.networks,
        now=shared.now,
        memory=shared.memory,
        secret=secrets.login,
        channel_binding=settings.login.channel_binding,
    )
    shared.closing.callback(desk.close)
    shared.bus.subscribe("directory", lambda notice: desk.forget(notice.name))
    acceptance = Acceptance(
        spool=storage.spool,
        planner=shared.planner,
        reporter=shared.reporter,
        ids=shared.ids,
        hostname=settings.hostname,
        limits=settings.limits,
        now=shared.now,
    )
    tasks = TransactionTasks()
    shared.closing.push_async_callback(tasks.close)
    return SessionParts(
        settings,
        shared.now,
        storage,
        shared.book,
        acceptance,
        ArrivingMemory(settings.limits.memory_for_arrivals, settings.limits.memory_per_message),
        tasks,
        ReverseNames(shared.resolver, is_public=is_public),
        desk,
        SentForms(storage.mailboxes),
        Watchers(shared.bus, "mailbox"),
    )


async def _look_after_sessions(shared: _Shared, connections: Connections) -> None:
    """End the sessions of accounts that change, and answer commands that ask about sessions."""
    bus = shared.bus
    control = SessionControl(connections, shared.storage.directory, now=shared.now, worker=shared.number)
    shared.closing.push_async_callback(control.close)
    bus.subscribe("directory", control.notified)
    socket = ControlSocket(bus.folder, bus.name, control.answer)
    await socket.start()
    shared.closing.push_async_callback(socket.close)


def wall_clock() -> Micros:
    """Return microseconds since 1970: the clock of everything that storage keeps."""
    return time.time_ns() // 1000
