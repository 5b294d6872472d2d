"""A crew replaces who dies: at once, then ever more slowly; and it knows a fault of its own from one of the machine."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from waypost.config.settings import Settings
from waypost.service.machine.secrets import Secrets
from waypost.service.processes.crew import Crew, CrewBroken
from waypost.service.processes.orders import Orders, Word


class Fake:
    """A process that is ready at once while `able`, and ends when it is told to, or else at once."""

    able = True
    started = 0
    hopeless = False

    def __init__(self) -> None:
        self.pid = 4711
        self.number: int | None = 0 if Fake.able else None
        self.problem = "" if Fake.able else "No space left on device"
        self.dead = asyncio.Event()

    @classmethod
    async def start(cls, forks: object, orders: Orders, heard: object) -> "Fake":
        cls.started += 1
        return cls()

    async def end(self) -> str:
        if self.number is not None:
            await self.dead.wait()
        return "exit status 1"

    def tell(self, word: Word) -> None:
        self.dead.set()

    def kill(self) -> None:
        self.dead.set()


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Crew:
    monkeypatch.setattr("waypost.service.processes.crew.WorkerProcess", Fake)
    monkeypatch.setattr("waypost.service.processes.crew._FIRST_WAIT", 0.001)
    monkeypatch.setattr("waypost.service.processes.crew._LONGEST_WAIT", 0.001)
    monkeypatch.setattr(Fake, "able", True)
    monkeypatch.setattr(Fake, "started", 0)
    settings = Settings(tmp_path / "waypost.toml", "mx.builder.test", ("builder.test",), tmp_path / "data")
    return Crew(None, Orders(1, settings, Secrets(), None, (), json_log=True), (), 1)


async def until_started(times: int) -> None:
    async with asyncio.timeout(20):
        while Fake.started < times:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_crew_that_never_worked_is_broken_after_some_tries(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "able", False)
    crew.start()
    with pytest.raises(CrewBroken, match="died 5 times before it was ready: No space left on device"):
        await asyncio.wait_for(crew.ready(), 20)
    await crew.ended()


async def test_a_crew_that_worked_goes_on_trying_until_the_machine_is_well_again(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew.start()
    await asyncio.wait_for(crew.ready(), 20)
    monkeypatch.setattr(Fake, "able", False)
    crew.processes[0].tell(Word.STOP)
    await until_started(12)
    assert crew.broken is None
    monkeypatch.setattr(Fake, "able", True)
    before = Fake.started
    await until_started(before + 1)
    await asyncio.sleep(0.01)
    assert [process.number for process in crew.processes] == [0]
    crew.tell(Word.STOP)
    await asyncio.wait_for(crew.ended(), 20)


async def test_a_crew_goes_on_trying_for_as_long_as_it_takes(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.service.processes.crew._LONGEST_WAIT", 0.0)
    crew.start()
    await asyncio.wait_for(crew.ready(), 20)
    monkeypatch.setattr(Fake, "able", False)
    crew.processes[0].tell(Word.STOP)
    await until_started(1100)  # a night, at half a minute each
    assert crew.broken is None
    crew.give_up()
    await asyncio.wait_for(crew.ended(), 20)


async def test_a_machine_without_room_for_a_process_is_no_fault_of_the_crew(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_process(forks: object, orders: Orders, heard: object) -> Fake:
        Fake.started += 1
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    crew.start()
    await asyncio.wait_for(crew.ready(), 20)
    before = Fake.started
    with monkeypatch.context() as short:
        short.setattr(Fake, "start", no_process)
        crew.processes[0].tell(Word.STOP)
        await until_started(before + 3)
    await until_started(before + 4)
    assert crew.broken is None
    crew.give_up()
    await asyncio.wait_for(crew.ended(), 20)
