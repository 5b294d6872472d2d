"""kill -9 at any moment: every acknowledged message is whole, what was settled is gone, nothing is half written."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.storage.crash_writer import octets_of
from tests.storage.letters import Engine, stored

from waypost.message.trace import TraceId
from waypost.storage import Filter
from waypost.storage.sqlite.upkeep.check import StorageChecker

KILLS = 4


class Writers:
    """Two processes that write until they are killed, and what they said."""

    def __init__(self, data: Path, seed: int) -> None:
        self.lines: list[str] = []
        self._enough = threading.Event()
        self._wanted = 1 << 62
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.storage.crash_writer", str(data), str(worker), str(seed + 100 * worker)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for worker in range(2)
        ]
        self._readers = [threading.Thread(target=self._read, args=(process,)) for process in self._processes]

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line)
            if len(self.lines) >= self._wanted:
                self._enough.set()
        self._enough.set()

    def kill_after(self, lines: int) -> None:
        """Kill both when they have said so much; what they still say before they die counts too."""
        self._wanted = lines
        for reader in self._readers:
            reader.start()
        assert self._enough.wait(60), "the writers have stopped"
        for process in self._processes:
            process.kill()
        for process, reader in zip(self._processes, self._readers, strict=True):
            process.wait()
            reader.join()
            assert process.stdout is not None
            process.stdout.close()
            assert process.returncode == -9


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    queued: dict[TraceId, int] = {}
    in_mailbox: dict[TraceId, int] = {}
    settled: set[TraceId] = set()
    for kill in range(KILLS):
        writers = Writers(engine.data, seed * 1000 + kill)
        writers.kill_after(chance.randrange(1, 300))
        for line in writers.lines:
            what, trace, octets = line.split()
            if what == "settled":
                settled.add(TraceId(int(trace)))
            else:
                (queued if what == "queued" else in_mailbox)[TraceId(int(trace))] = int(octets)
        await audit(engine, queued, in_mailbox, settled)
    assert queued and in_mailbox and settled


async def audit(
    engine: Engine, queued: dict[TraceId, int], in_mailbox: dict[TraceId, int], settled: set[TraceId]
) -> None:
    opened = await engine.open(worker=2)
    storage = opened.storage
    try:
        waiting = [entry.trace async for entry in storage.queue.entries(Filter(), now=0)]
        assert len(waiting) == len(set(waiting))
        assert settled.isdisjoint(waiting)
        # At the kill, an entry may have been taken out whose settling wasn't said yet: one for each task.
        missing = {trace for trace in queued if trace not in settled and trace not in waiting}
        assert len(missing) <= 16
        settled |= missing
        account = await storage.directory.account("bob@builder.test")
        assert account is not None
        found = {message.trace for message in await storage.mailboxes.messages(account.inbox)}
        assert in_mailbox.keys() <= found
        for trace, seed in (queued | in_mailbox).items():
            if trace not in settled:
                assert await stored(storage.spool, trace) == octets_of(seed)
        checker = StorageChecker(engine.data)
        assert [problem for problem in checker.problems(lambda done, total: None) if not problem.harmless] == []
        checker.close()
        await opened.maintain(smallest=0)
        checker = StorageChecker(engine.data)
        assert list(checker.problems(lambda done, total: None)) == []
        checker.close()
    finally:
        await engine.close()
