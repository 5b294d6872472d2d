"""A session is woken from outside in whatever state it is, over both loops, and an idle one costs no task for it."""

import asyncio
import tracemalloc
from typing import Any

import pytest
from tests.service.sessions import Client, in_thread
from tests.service.test_connection import Open, until
from tests.service.test_connection import stage as stage

from waypost.protocol.session import Ending
from waypost.service.sockets.timing import Timing
from waypost.storage import Notice, Watchers


async def test_an_idle_session_is_woken(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    assert await in_thread(client.line) == "hello"
    session = await server.session()
    session.tell("news")
    assert await in_thread(client.line) == "news"
    assert server.connections[0]._task is None, "an idle session has no task"
    client.send("quit")
    assert await in_thread(client.rest) == b"bye\r\n"
    client.close()
    await server.over()


async def test_many_news_of_one_turn_are_told_once_and_in_order(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    await in_thread(client.line)
    session = await server.session()
    for number in range(3):
        session.tell(str(number))
    client.send("quit")
    assert await in_thread(client.rest) == b"0\r\n1\r\n2\r\nbye\r\n"
    client.close()
    await server.over()


async def test_a_session_in_the_middle_of_an_answer_tells_the_news_behind_it(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("wait")
    session = await server.session()
    await session.waits.wait()
    session.tell("news")
    await asyncio.sleep(0)
    assert session.news == ["news"]
    session.go.set()
    assert [await in_thread(client.line) for _ in range(3)] == ["hello", "waited", "news"]
    client.close()
    await server.over()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_session_whose_output_is_pending_says_the_news_once_its_peer_reads(stage: Open, tls: bool) -> None:
    server = await stage(implicit=tls)
    client = await in_thread(lambda: Client(server.port, implicit=tls))
    client.send("pour 8388608")
    session = await server.session()
    connection = server.connections[0]
    await until(lambda: connection._flow.waits_for_peer)
    for number in range(100):
        session.tell(str(number))
        await asyncio.sleep(0)
    assert len(session.news) == 100, "nothing is said to a peer that does not read"

    def read() -> bytes:
        octets = bytearray()
        while not octets.endswith(b"\r\n99\r\n"):
            octets += client.socket.recv(1 << 16)
        return bytes(octets)

    assert (await in_thread(read)).endswith(b"x0\r\n" + b"".join(b"%d\r\n" % n for n in range(1, 100)))
    client.close()
    await server.over()


async def test_news_during_a_handshake_are_told_over_tls(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("starttls")
    await in_thread(lambda: (client.line(), client.line()))
    session = await server.session()
    connection = server.connections[0]
    await until(lambda: connection._state.name == "SHAKING")
    session.tell("news")
    await asyncio.sleep(0)
    await in_thread(client.start_tls)
    assert await in_thread(client.line) == "news"
    client.close()
    await server.over()


async def test_nobody_wakes_a_session_that_is_over(stage: Open) -> None:
    server = await stage(timing=Timing(session=3600, linger=60))
    client = Client(server.port)
    await in_thread(client.line)
    session = await server.session()
    wake = session.wake
    client.send("quit")
    await until(lambda: server.connections[0]._state.name == "CLOSING")
    session.tell("too late")
    await asyncio.sleep(0)
    assert await in_thread(client.rest) == b"bye\r\n"
    client.close()
    await server.over()
    assert session.wake is None
    wake()
    await asyncio.sleep(0)
    assert session.seen == ["quit", "closed"]


async def test_news_do_not_make_a_silent_peer_talk(stage: Open) -> None:
    server = await stage(patience=3600.0)
    client = Client(server.port)
    await in_thread(client.line)
    session, connection = await server.session(), server.connections[0]
    heard = connection._heard
    session.tell("news")
    await in_thread(client.line)
    assert connection._heard == heard
    client.send("quit")
    await in_thread(client.rest)
    client.close()
    await server.over()


@pytest.mark.parametrize("why", [Ending.ACCOUNT_CHANGED, Ending.BY_OPERATOR, Ending.TIMED_OUT])
async def test_a_peer_that_does_not_read_is_not_waited_for(stage: Open, why: Ending) -> None:
    server = await stage(implicit=True)
    client = await in_thread(lambda: Client(server.port, implicit=True))
    client.send("pour 8388608")
    await server.session()
    connection = server.connections[0]
    await until(lambda: connection._flow.waits_for_peer)
    connection.end(why)
    await server.over()
    client.close()


class Idle:
    """The least that waits for a notice."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        self.heard: list[Notice] | None = None

    def notified(self, notice: Notice) -> None:
        self.heard = [*(self.heard or []), notice]


class LoudBus:
    """A bus of one process, without sockets."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def subscribe(self, topic: str, handler: Any) -> None:
        self.handlers[topic] = handler

    def publish(self, notice: Notice) -> None:
        self.handlers[notice.topic](notice)


async def test_ten_thousand_idle_watchers_cost_a_few_hundred_octets_each_and_no_task() -> None:
    bus, idlers = LoudBus(), [Idle() for _ in range(10_000)]
    watchers, tasks = Watchers(bus, "mailbox"), len(asyncio.all_tasks())
    tracemalloc.start()
    try:
        for number, idle in enumerate(idlers):
            watchers.add(str(number), idle)
        cost = tracemalloc.get_traced_memory()[0] / len(idlers)
    finally:
        tracemalloc.stop()
    assert cost < 300
    assert len(asyncio.all_tasks()) == tasks
    bus.publish(Notice("mailbox", "4711"))
    assert [number for number, idle in enumerate(idlers) if idle.heard] == [4711]
    for number, idle in enumerate(idlers):
        watchers.discard(str(number), idle)
        watchers.discard(str(number), idle)
    assert len(watchers) == 0


async def test_watchers_of_one_name_all_hear_it_whatever_one_of_them_does(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Idle):
        def notified(self, notice: Notice) -> None:
            raise RuntimeError("as the test wants it")

    bus = LoudBus()
    watchers = Watchers(bus, "mailbox")
    first, broken, last = Idle(), Broken(), Idle()
    for watcher in (first, broken, last):
        watchers.add("7", watcher)
    bus.publish(Notice("mailbox", "7"))
    bus.publish(Notice("mailbox", "8"))
    assert first.heard == last.heard == [Notice("mailbox", "7")]
    assert [record.message for record in caplog.records] == ["notice failed"]
