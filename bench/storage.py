"""Where message bytes live best: as BLOBs in SQLite's rows, or in append-only segment files beside it.

    python -m bench.storage [--seconds S] [--rounds N] [--sizes 1024,10240,102400]

`rows` and `segments` are the same writer, 20 messages a commit, but for where the octets go. `engine` is the storage
as built, with 20 sessions that each wait for their own message; it writes journal and names as well.
"""

import argparse
import asyncio
import fcntl
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Protocol

import apsw

from bench.harness import scratch
from waypost.journal import Event, Received
from waypost.message.address import Address
from waypost.message.envelope import Envelope, Recipient
from waypost.message.trace import TraceIdMaker
from waypost.storage import Filter, NewEntry, NewMessage, Outcome
from waypost.storage.sqlite import open_storage

GROUP = 20
TOGETHER = [(1, "1 process"), (2, "2 processes")]
ENVELOPE = '[["alice","wonderland.test"],"7BIT",false,null,null,null,null,null,0]'
RECIPIENTS = '[["bob","builder.test",null]]'


class Layout(Protocol):
    """A place for message bytes beside the same rows."""

    def write(self, octets: bytes) -> None:
        """Commit a group of messages."""
        ...

    def delete_most(self) -> None:
        """Delete nine messages of ten."""
        ...

    def give_back(self) -> None:
        """Give the space back to the disk."""
        ...


class Rows:
    """The octets are a BLOB of the message's row."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._path = folder / "rows.db"
        self._serial = itertools.count(worker << 40)
        self._turn = os.open(folder / "turn", os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        self._connection = _connect(self._path)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, envelope TEXT, octets BLOB);"
            "CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, message INTEGER, destination TEXT, "
            "recipients TEXT, next_attempt INTEGER);"
            "CREATE INDEX IF NOT EXISTS due ON entry (destination, next_attempt)"
        ).fetchall()
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def write(self, octets: bytes) -> None:
        """Commit a group of messages."""
        ids = [next(self._serial) for _ in range(GROUP)]
        self._commit([(number, ENVELOPE, octets) for number in ids])

    def _commit(self, rows: list[tuple[int, str, Any]]) -> None:
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        with self._connection:
            self._connection.executemany("INSERT INTO message VALUES (?, ?, ?)", rows)
            self._connection.executemany(
                "INSERT INTO entry (message, destination, recipients, next_attempt) VALUES (?, ?, ?, ?)",
                [(row[0], "builder.test", RECIPIENTS, row[0]) for row in rows],
            )
        _checkpoint(self._connection, self._path)
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def delete_most(self) -> None:
        """Delete nine messages of ten."""
        self._connection.execute("DELETE FROM message WHERE id % 10").fetchall()
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def give_back(self) -> None:
        """Write the database anew: its file only shrinks so."""
        self._connection.execute("VACUUM").fetchall()
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class Segments(Rows):
    """The octets are in a file of this process; the row says where."""

    def __init__(self, folder: Path, worker: int) -> None:
        super().__init__(folder, worker)
        self._file = os.open(folder / f"{worker}.seg", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def write(self, octets: bytes) -> None:
        """Commit a group of messages: the file first, then the rows."""
        ids = [next(self._serial) for _ in range(GROUP)]
        os.writev(self._file, [octets] * GROUP)
        os.fdatasync(self._file)
        self._commit([(number, ENVELOPE, None) for number in ids])


@dataclass
class Rate:
    """What one run reached."""

    messages: float  # a second
    written: float  # octets written to the disk for each octet of mail


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _checkpoint(connection: apsw.Connection, path: Path) -> None:
    if Path(f"{path}-wal").stat().st_size > 32 << 20:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def run_layout(kind: Callable[[Path, int], Layout], folder: Path, worker: int, size: int, seconds: float) -> int:
    """Write groups for a time; returns how many messages."""
    layout, octets, done = kind(folder, worker), os.urandom(size), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        layout.write(octets)
        done += GROUP
    return done


def run_engine(_: object, folder: Path, worker: int, size: int, seconds: float) -> int:
    """Let 20 sessions write for a time; returns how many messages."""
    return asyncio.run(_sessions(folder, worker, size, seconds))


async def _sessions(folder: Path, worker: int, size: int, seconds: float) -> int:
    opened, post = await _open(folder, worker)
    octets, until, done = os.urandom(size), time.monotonic() + seconds, 0

    async def session() -> None:
        nonlocal done
        while time.monotonic() < until:
            await post(octets)
            done += 1

    await asyncio.gather(*(session() for _ in range(GROUP)))
    await opened.close()
    return done


async def _open(folder: Path, worker: int) -> tuple[Any, Callable[[bytes], Any]]:
    def now() -> int:
        return time.time_ns() // 1000

    opened = await open_storage(folder, now=now, worker=worker, publish=lambda notice: None, memory_per_message=1 << 20)
    ids, spool = TraceIdMaker(worker, now), opened.storage.spool
    recipients = (Recipient(Address.parse("bob@builder.test")),)
    envelope = Envelope(Address.parse("alice@wonderland.test"))

    async def post(octets: bytes) -> None:
        body = spool.new_body()
        await body.write(octets)
        trace, when = ids(), now()
        event = Event(trace, when, Received(peer="127.0.0.1", recipients=(), size=len(octets)))
        await spool.accept(
            NewMessage(
                trace=trace,
                received_at=when,
                envelope=envelope,
                head=b"Received: from there\r\n",
                body=body,
                message_id=f"<{trace}@wonderland.test>",
                entries=(NewEntry("builder.test", recipients, when),),
                events=(event,),
            )
        )
        body.discard()

    return opened, post


CONTENDERS: dict[str, tuple[Callable[..., int], Any]] = {
    "rows": (run_layout, Rows),
    "segments": (run_layout, Segments),
    "engine": (run_engine, None),
}


def _one(name: str, folder: Path, worker: int, size: int, seconds: float, ready: Barrier, results: Any) -> None:
    ready.wait()
    before = _written()
    run, kind = CONTENDERS[name]
    done = run(kind, folder, worker, size, seconds)
    results.put((done, _written() - before))


def measure(name: str, processes: int, size: int, seconds: float) -> Rate:
    """Run one contender in so many processes at once, on a fresh folder."""
    context = multiprocessing.get_context("spawn")
    with scratch() as folder:
        ready, results = context.Barrier(processes), context.Queue()
        workers = [
            context.Process(target=_one, args=(name, folder, worker, size, seconds, ready, results))
            for worker in range(processes)
        ]
        for worker in workers:
            worker.start()
        found = [results.get() for _ in workers]
        for worker in workers:
            worker.join()
    done = sum(messages for messages, _ in found)
    return Rate(done / seconds, sum(octets for _, octets in found) / max(1, done * size))


def octets_in(folder: Path) -> int:
    """Return what all files of a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def space_of_rows(messages: int, size: int) -> list[float]:
    """Return the MiB after writing, after deleting 90%, after giving back, and the seconds that this took."""
    with scratch() as folder:
        layout = Rows(folder, 0)
        for _ in range(messages // GROUP):
            layout.write(os.urandom(size))
        before = octets_in(folder)
        layout.delete_most()
        deleted, began = octets_in(folder), time.monotonic()
        layout.give_back()
        return [before / 2**20, deleted / 2**20, octets_in(folder) / 2**20, time.monotonic() - began]


def space_of_engine(messages: int, size: int) -> list[float]:
    """Return the same for the storage as built, by its own housekeeping."""
    with scratch() as folder:
        return asyncio.run(_space_of_engine(folder, messages, size))


async def _space_of_engine(folder: Path, messages: int, size: int) -> list[float]:
    opened, post = await _open(folder, 0)
    for _ in range(messages // GROUP):
        await asyncio.gather(*(post(os.urandom(size)) for _ in range(GROUP)))
    await opened.close()
    opened, _ = await _open(folder, 0)
    before = octets_in(folder)
    queue = opened.storage.queue
    entries = [entry async for entry in queue.entries(Filter(), now=0)]
    await queue.settle([Outcome(entry.id, entry.trace, None) for entry in entries if entry.id % 10])
    deleted, began = octets_in(folder), time.monotonic()
    await opened.maintain()
    after = octets_in(folder)
    seconds = time.monotonic() - began
    await opened.close()
    return [before / 2**20, deleted / 2**20, after / 2**20, seconds]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything in turn and print it as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="1024,10240,102400")
    parser.add_argument("--messages", type=int, default=10_000, help="for the space that comes back")
    options = parser.parse_args(arguments)
    print(f"durable messages a second, {GROUP} in a commit, {os.cpu_count()} cores; in brackets: octets written")
    print(f"to the disk for each octet of mail; median of {options.rounds} rounds of {options.seconds} s")
    for size in map(int, options.sizes.split(",")):
        for processes, words in TOGETHER:
            rates: dict[str, list[Rate]] = {name: [] for name in CONTENDERS}
            for _ in range(options.rounds):
                for name in CONTENDERS:
                    rates[name].append(measure(name, processes, size, options.seconds))
            cells = [
                f"{name} {statistics.median(rate.messages for rate in found):7.0f} "
                f"({statistics.median(rate.written for rate in found):.1f})"
                for name, found in rates.items()
            ]
            print(f"  {size:>7} octets, {words:<11}  " + "   ".join(cells), flush=True)
    print(f"\nMiB on disk: {options.messages} messages of 10 KiB; 90% deleted; space given back, and in what time")
    for name, space in (("rows", space_of_rows), ("engine", space_of_engine)):
        before, deleted, after, seconds = space(options.messages, 10240)
        print(f"  {name:<8} {before:7.1f}  {deleted:7.1f}  {after:7.1f}   {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
