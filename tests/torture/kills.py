"""Kills by the hundred: hosts under load are killed at random moments, started again, and at the end all is counted.

After each kill of a whole host, a copy of its data directory is checked as the kill left it.
"""

import asyncio
import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.hosts import ALPHA, BETA, CONNECTIONS, Stage
from tests.torture.load import Load
from tests.torture.moments import Moment
from tests.torture.promises import Promises
from tests.torture.verdict import Kill, Verdict, Victim, judge

from waypost.lab.host import LabError
from waypost.storage.sqlite import DATABASE
from waypost.storage.sqlite.connection import connect_reading
from waypost.storage.sqlite.upkeep.check import StorageChecker

_MOST_AT_ONCE = 2 * CONNECTIONS  # one connection waits for an answer, and has one whose outcome is being written
_PATIENCE = 180.0  # seconds for the queues to drain
_STARTS_KILLED = 0.15  # the share of starts that are killed, too


class PromiseBroken(AssertionError):
    """Something was lost, doubled, or came from nowhere. The message lists it."""


@dataclass
class KillFigures:
    """What a torture of this kind amounts to."""

    kills: Counter[Victim] = field(default_factory=Counter)
    messages: int = 0
    unanswered: int = 0
    stored_twice: int = 0
    ends: int = 0
    reports: int = 0
    deletions: int = 0
    doubtful_quits: int = 0
    duplicates: int = 0
    most_duplicates: int = 0  # of one kill
    checks: int = 0
    seconds: float = 0.0


@dataclass
class KillTorture:
    """One run: its own stage under `folder`."""

    folder: Path
    network: str
    seed: int
    tell: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.seed} kills")
        self._promises = Promises(self.seed)
        self._stage = Stage(self.folder, self.network, self._promises)
        self._kills: list[Kill] = []
        self._checks: list[asyncio.Task[None]] = []
        self._uids: dict[tuple[str, int], tuple[int, int]] = {}  # mailbox: UIDVALIDITY, next UID
        self.figures = KillFigures()

    async def run(self, kills: int) -> KillFigures:
        """Kill so often, then count. Raises `PromiseBroken`, `LabError`."""
        began = time.monotonic()
        try:
            await self._stage.start()
            maildrops = self._stage.maildrops()
            load = Load(self.seed, self._promises, self._stage.mailers(), maildrops, self._stage.moments)
            load.start()
            try:
                while len(self._kills) < kills:
                    await self._round(load)
                    self.tell(f"kill {len(self._kills)} of {kills}: {load.acknowledged} messages acknowledged")
                await load.more(1)
                await load.finish()
            finally:
                await load.cancel()
            await asyncio.gather(*self._checks)
            await self._drain()
            await load.read_all()
            verdict = judge(self._promises, [drop for drop, _, _ in maildrops], self._stage.sink.taken, self._kills)
            await self._check_hosts(verdict)
            self._count(load, verdict, time.monotonic() - began)
            self._conclude(verdict)
        finally:
            await self._stage.kill()
        return self.figures

    # Killing.

    async def _round(self, load: Load) -> None:
        """Let the clients work for a while, then kill something, and start it again."""
        name = await self._moment(load)
        how = self._chance.random()
        if how < 0.25:
            if self._stage.kill_worker(name, self._chance):
                self._note(name, Victim.WORKER)
            return
        if how < 0.35:
            await self._stage.kill_supervisor(name)
            self._note(name, Victim.SUPERVISOR)
        else:
            await self._kill_host(name, Victim.HOST)
        while self._chance.random() < _STARTS_KILLED:
            starting = asyncio.create_task(self._stage.hosts[name].start())
            await asyncio.wait([starting], timeout=self._chance.random() * 1.5)
            await self._kill_host(name, Victim.STARTING)
            with contextlib.suppress(LabError):  # that it ended before it was ready
                await starting
        await self._stage.hosts[name].start()

    async def _moment(self, load: Load) -> str:
        """Wait for the moment of a kill: any, or one that hurts; return the host's domain."""
        await load.more(self._chance.choice((1, 5, 20, 60)))
        moment = self._chance.choice((None, None, None, *Moment))
        if moment is None:
            await asyncio.sleep(self._chance.random() * 0.05)
            return self._chance.choices((ALPHA, BETA), (3, 1))[0]
        async with asyncio.timeout(_PATIENCE):
            host = await self._stage.moments.next(moment)
        await asyncio.sleep(self._chance.random() ** 2 * 0.01)
        return host

    async def _kill_host(self, name: str, victim: Victim) -> None:
        await self._stage.kill_host(name)
        self._note(name, victim)
        copy = self.folder / f"copy-{len(self._kills)}"
        await asyncio.to_thread(shutil.copytree, self._stage.hosts[name].directory / "data", copy, ignore=_no_sockets)
        self._checks.append(asyncio.create_task(asyncio.to_thread(self._check_copy, name, copy)))

    def _note(self, name: str, victim: Victim) -> None:
        self._kills.append(Kill(time.time(), name, victim))
        self.figures.kills[victim] += 1

    # Checking.

    def _check_copy(self, name: str, copy: Path) -> None:
        """Check a data directory as a kill left it, in a thread."""
        checker = StorageChecker(copy)
        try:
            wrong = [problem.what for problem in checker.problems(lambda read, total: None) if not problem.harmless]
        finally:
            checker.close()
        wrong += self._compare_uids(name, copy)
        self.figures.checks += 1
        if wrong:
            raise PromiseBroken("\n  ".join([f"{copy}, of {name}:", *wrong]))
        shutil.rmtree(copy)

    def _compare_uids(self, name: str, copy: Path) -> list[str]:
        """UIDVALIDITY stays, and the next UID never goes back. Copies are checked in any order."""
        with contextlib.closing(connect_reading(copy / DATABASE)) as database:
            rows = database.execute("SELECT id, uidvalidity, uidnext FROM mailbox").fetchall()
        changed = []
        for box, validity, following in rows:
            before = self._uids.setdefault((name, box), (validity, following))
            if before[0] != validity:
                changed.append(f"UIDVALIDITY of mailbox {box} was {before[0]}, and is {validity}")
            self._uids[name, box] = (validity, max(before[1], following))
        return changed

    async def _drain(self) -> None:
        """Wait until both queues are empty."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while waiting := await self._stage.waiting():
                    self.tell(f"{waiting} entries wait")
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise PromiseBroken("the queues did not drain: see the hosts' logs") from None

    async def _check_hosts(self, verdict: Verdict) -> None:
        """Ask both hosts' own command, while they run and when they are stopped."""
        for _ in range(2):
            for host in self._stage.hosts.values():
                try:
                    await host.run("storage", "check")
                except LabError as error:
                    verdict.problems.append(str(error))
            await self._stage.stop()

    def _count(self, load: Load, verdict: Verdict, seconds: float) -> None:
        figures = self.figures
        figures.messages = load.acknowledged
        figures.unanswered, figures.stored_twice = len(self._promises.unanswered), len(verdict.stored_twice)
        figures.ends, figures.reports = verdict.ends, verdict.reports
        figures.deletions, figures.doubtful_quits = load.deletions, load.doubts
        twice = [len(numbers) for numbers in verdict.duplicates.values()]
        figures.duplicates, figures.most_duplicates = sum(twice), max(twice, default=0)
        figures.seconds = seconds

    def _conclude(self, verdict: Verdict) -> None:
        if self.figures.most_duplicates > 2 * _MOST_AT_ONCE:  # two destinations are relayed to
            verdict.problems.append(f"{self.figures.most_duplicates} messages came twice after one kill")
        if verdict.problems:
            about = f"seed {self.seed}, {len(self._kills)} kills, {len(verdict.problems)} problems; see {self.folder}:"
            raise PromiseBroken("\n  ".join([about, *verdict.problems[:30]]))


def _no_sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("bus", "run")]
