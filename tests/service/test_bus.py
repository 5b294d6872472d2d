"""Notices reach every process of the folder, in bursts and past stuck or dead neighbours."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from waypost.service.processes.bus import UnixBus
from waypost.storage.bus import Notice

Join = Callable[[str], Awaitable[UnixBus]]


@pytest.fixture
async def join(tmp_path: Path) -> AsyncIterator[Join]:
    joined: list[UnixBus] = []

    async def join(name: str) -> UnixBus:
        bus = UnixBus(tmp_path / "bus", name)
        await bus.start()
        joined.append(bus)
        return bus

    yield join
    for bus in joined:
        bus.close()


class Ear:
    """What one process heard; `until` waits for a number of notices."""

    def __init__(self, bus: UnixBus, topic: str = "mailbox") -> None:
        self.heard: list[Notice] = []
        self._more = asyncio.Event()
        bus.subscribe(topic, self._hear)

    def _hear(self, notice: Notice) -> None:
        self.heard.append(notice)
        self._more.set()

    async def until(self, count: int) -> list[Notice]:
        while len(self.heard) < count:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 20)
        return self.heard


async def test_a_notice_reaches_every_process_and_its_own(join: Join) -> None:
    one, two = await join("one"), await join("two")
    ears = [Ear(one), Ear(two)]
    one.publish(Notice("mailbox", "7"))
    for ear in ears:
        assert await ear.until(1) == [Notice("mailbox", "7")]


async def test_a_topic_reaches_only_its_subscribers(join: Join) -> None:
    one, two = await join("one"), await join("two")
    destinations, mailboxes = Ear(two, "destination"), Ear(two)
    one.publish(Notice("destination", "example.org"))
    one.publish(Notice("mailbox", "1"))
    await mailboxes.until(1)
    assert destinations.heard == [Notice("destination", "example.org")]
    assert mailboxes.heard == [Notice("mailbox", "1")]


async def test_a_burst_in_one_iteration_travels_together_and_without_repetition(join: Join, tmp_path: Path) -> None:
    bus = await join("one")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as neighbour:
        neighbour.bind(str(tmp_path / "bus" / "neighbour.sock"))
        neighbour.setblocking(False)
        for _ in range(3):
            for number in range(100):
                bus.publish(Notice("mailbox", str(number)))
        bus.close()
        assert neighbour.recv(1 << 20).count(b'["mailbox","') == 100
        with pytest.raises(BlockingIOError):
            neighbour.recv(1 << 20)


async def test_what_is_said_soon_after_is_heard_here_at_once_and_by_others_when_the_moment_is_over(join: Join) -> None:
    one, two = await join("one"), await join("two")
    ears = [Ear(one), Ear(two)]
    for number in range(50):
        one.publish(Notice("mailbox", str(number % 2)))
        one._flush()
    assert len(ears[0].heard) == 50
    first, second = Notice("mailbox", "0"), Notice("mailbox", "1")
    assert sorted(await ears[1].until(3), key=lambda notice: notice.name) == [first, first, second]
    one.publish(Notice("mailbox", "2"))
    one._flush()
    one.publish(Notice("mailbox", "3"))
    one.close()
    assert (await ears[1].until(5))[3:] == [Notice("mailbox", "2"), Notice("mailbox", "3")]


async def test_a_process_that_reads_late_gets_what_its_full_socket_did_not_take(join: Join) -> None:
    one, two = await join("one"), await join("two")
    ear = Ear(two)
    for number in range(1000):
        one.publish(Notice("mailbox", str(number)))
        one._flush()
        one._end_moment()  # a datagram for each, far more than a socket holds
    heard = await ear.until(1000)
    assert {notice.name for notice in heard} == {str(number) for number in range(1000)}
    assert one.dropped == 0


async def test_a_process_that_never_reads_costs_bounded_memory(join: Join, tmp_path: Path) -> None:
    bus = await join("one")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stuck:
        stuck.bind(str(tmp_path / "bus" / "stuck.sock"))
        for number in range(20_000):
            bus.publish(Notice("mailbox", str(number)))
            bus._flush()
            bus._end_moment()
        assert sum(len(late.notices) for late in bus._late.values()) <= 5000
        assert bus.dropped > 10_000


async def test_the_socket_of_a_dead_process_is_removed(join: Join, tmp_path: Path) -> None:
    bus = await join("one")
    ear = Ear(bus)
    dead = tmp_path / "bus" / "dead.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(dead))
    bus.publish(Notice("mailbox", "1"))
    await ear.until(1)
    assert not dead.exists()


async def test_a_newcomer_is_seen_and_a_leaver_is_forgotten(join: Join, tmp_path: Path) -> None:
    one = await join("one")
    mine = Ear(one)
    one.publish(Notice("mailbox", "1"))
    await mine.until(1)
    two = await join("two")
    ear = Ear(two)
    one._listed_at = float("-inf")  # what a second does
    one.publish(Notice("mailbox", "2"))
    assert await ear.until(1) == [Notice("mailbox", "2")]
    two.close()
    assert sorted(os.listdir(tmp_path / "bus")) == ["one.sock"]
    one.publish(Notice("mailbox", "3"))
    await mine.until(3)
    assert one.dropped == 0


async def test_deep_folders_work(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-name-of-a-folder"] * 6)
    one, two = UnixBus(deep, "one"), UnixBus(deep, "two")
    await one.start()
    await two.start()
    ear = Ear(two)
    one.publish(Notice("mailbox", "1"))
    assert await ear.until(1) == [Notice("mailbox", "1")]
    one.close()
    two.close()


async def test_only_its_user_may_send_to_a_process(join: Join, tmp_path: Path) -> None:
    await join("one")
    assert (tmp_path / "bus" / "one.sock").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "bus").stat().st_mode & 0o777 == 0o700


async def test_publishing_never_fails(join: Join, tmp_path: Path) -> None:
    early = UnixBus(tmp_path / "bus", "early")
    early.publish(Notice("mailbox", "1"))
    bus = await join("one")
    ear = Ear(bus)
    (tmp_path / "bus" / "not-a-socket.sock").write_text("")
    bus.publish(Notice("mailbox", "1"))
    await ear.until(1)
    bus.close()
    bus.publish(Notice("mailbox", "2"))
    bus.close()
    assert ear.heard == [Notice("mailbox", "1")]


async def test_a_subscriber_that_fails_does_not_silence_the_others(join: Join) -> None:
    bus = await join("one")

    def fail(notice: Notice) -> None:
        raise RuntimeError(notice.name)

    bus.subscribe("mailbox", fail)
    ear = Ear(bus)
    bus.publish(Notice("mailbox", "1"))
    assert await ear.until(1) == [Notice("mailbox", "1")]


async def test_what_is_no_notice_is_ignored(join: Join, tmp_path: Path) -> None:
    bus = await join("one")
    ear = Ear(bus)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for octets in (b"", b"\xff\x00", b"{}", b'[["mailbox"]]', b'[["mailbox","1"]]'):
            stranger.sendto(octets, str(tmp_path / "bus" / "one.sock"))
    assert await ear.until(1) == [Notice("mailbox", "1")]


async def test_a_name_whose_process_died_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "bus").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(tmp_path / "bus" / "one.sock"))
    bus = UnixBus(tmp_path / "bus", "one")
    await bus.start()
    ear = Ear(bus)
    bus.publish(Notice("mailbox", "1"))
    assert await ear.until(1) == [Notice("mailbox", "1")]
    bus.close()
