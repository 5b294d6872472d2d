"""`make soak`: very many connections that fail in mixed ways; afterwards a worker holds what it held before.

`python -m tests.faults.soak --connections 200000`. One worker (`tests/faults/office.py`) runs in this process, its
clients in others. After a first part, which fills caches, its memory, descriptors, tasks, threads, objects and free
places are counted; after all of it they must be the same, memory within `--slack` MiB. Then every message that was
acknowledged is looked for. Prints one JSON object; exits with 1 when something was not given back, or lost.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import ipaddress
import json
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop
from tests.faults.office import BOB, Office, route, settings_for
from tests.transport.mail_server import CLOSE, GARBAGE, RESET, MailServer

from waypost.config.settings import Limits
from waypost.storage.sqlite.upkeep.check import StorageChecker

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
PORTS = ("smtp", "submission", "submissions", "lmtp", "pop3", "pop3s")
_SEGMENTS_KEPT_OPEN = 64
_OBJECTS = 3000  # of the interpreter that may be more afterwards: caches of its own, and of the libraries


def describe_files() -> Counter[str]:
    """Count this process's descriptors by what they are: sockets, segments, and the rest."""
    kinds: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = str(Path(f"/proc/self/fd/{name}").readlink())
            kinds["sockets" if target.startswith("socket:") else "segments" if ".seg" in target else "other"] += 1
    return kinds


def resident() -> int:
    """This process's memory, in octets."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def failing_server() -> MailServer:
    """The next host: it fails at every stage now and then, and takes most."""
    chance = random.Random(1)
    usual = {"GREETING": "220 mx.there.test", "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go", "CONTENT": "250 ok"}

    def now_and_then(good: str) -> Any:
        bad = [CLOSE, RESET, GARBAGE, "421 4.3.2 not now", "451 4.3.0 later"]
        return lambda visit, line: chance.choice(bad) if chance.random() < 0.1 else good

    return MailServer("PIPELINING", **{stage: now_and_then(good) for stage, good in usual.items()})


class Soak:
    """One run."""

    def __init__(self, folder: Path, connections: int, slack: int) -> None:
        self._folder = folder
        self._connections = connections
        self._slack = slack << 20
        self._acknowledged = 0
        self._delivered = 0
        self._relayed = 0
        self._kinds: Counter[str] = Counter()

    async def run(self) -> dict[str, Any]:
        """Return the figures, with what is wrong under `wrong`."""
        server = failing_server()
        async with server:
            office = Office(
                dataclasses.replace(
                    settings_for(self._folder),
                    domains=("here.test", "there.test"),
                    routes=(route("there.test", server.port),),
                    limits=Limits(
                        command_timeout=5_000_000,
                        memory_per_message=64 * 1024,
                        connections_per_network=100_000,
                        connection_rate_per_network=1_000_000_000,
                        exempt_networks=(),
                    ),
                )
            )
            await office.open()
            await office.staff()
            for name in PORTS:
                office.port(name, **({"proxy_protocol": LOOPBACK} if name == "lmtp" else {}))
            # Threads come when they are first needed: let all be here.
            await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(64)))
            # As many first, until tables are full, the log has been moved once, and the allocator has what it keeps.
            await self._clients(office, self._connections, seed=0)
            before = await self._count(office, server)
            began = time.monotonic()
            await self._clients(office, self._connections, seed=1)
            seconds = time.monotonic() - began
            after = await self._count(office, server)
            wrong = self._compare(before, after) + await self._audit(office)
            await office.close()
        return {
            "connections": self._connections,
            "seconds": round(seconds, 1),
            "a second": round(self._connections / seconds),
            "kinds": dict(self._kinds),
            "acknowledged": self._acknowledged,
            "delivered": self._delivered,
            "relayed": self._relayed,
            "before": before,
            "after": after,
            "wrong": wrong,
        }

    async def _clients(self, office: Office, connections: int, *, seed: int) -> None:
        ports = {name: office.port(name) for name in PORTS}
        halves = (connections // 2, connections - connections // 2)
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.soak_clients", json.dumps(ports), str(half), str(2 * seed + k)),
                stdout=asyncio.subprocess.PIPE,
            )
            for k, half in enumerate(halves)
        ]
        for output, _ in await asyncio.gather(*(process.communicate() for process in processes)):
            told = json.loads(output)
            self._acknowledged += told.pop("acknowledged")
            self._kinds.update(told)

    async def _count(self, office: Office, server: MailServer) -> dict[str, Any]:
        """Wait until everybody is gone and the queue is empty, and count what is held then."""
        await office.empty()
        whims, server.answers = server.answers, {}
        await office.drained()
        server.answers = whims
        await server.until(lambda: not server.open)
        dispatcher: Any = office.assembly.dispatcher
        relay = dispatcher._carrier_for("there.test")
        async with asyncio.timeout(60):
            while dispatcher._sources or relay.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        self._relayed += len(server.taken)
        server.visits.clear()
        server.taken.clear()
        await office.assembly.storage.maintain(smallest=0)
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0.2)
        files = describe_files()
        return {
            "memory": resident(),
            "objects": len(gc.get_objects()),
            "sockets": files["sockets"],
            "segments": files["segments"],
            "other files": files["other"],
            "threads": threading.active_count(),
            "tasks": len(asyncio.all_tasks()),
            "places taken": office.admitted,
            "connections": len(office.assembly.listening.connections),
            "outbound slots free": relay._pool.free,
            "destinations": len(dispatcher._sources),
            "half messages": len(list((office.settings.data / "segments").glob("arriving-*"))),
            "mailbox locks": len(list((office.settings.data / "locks").glob("mailbox-*"))),
        }

    def _compare(self, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        bounds = {"memory": self._slack, "objects": _OBJECTS, "segments": _SEGMENTS_KEPT_OPEN}
        return [
            f"{name}: {before[name]} before, {after[name]} after"
            for name in before
            if (after[name] - before[name] > bounds[name] if name in bounds else after[name] != before[name])
        ]

    async def _audit(self, office: Office) -> list[str]:
        """Acknowledged mail is in Bob's mailbox, or at the next host."""
        wrong = []
        inbox = await office.storage.mailboxes.messages((await office.account(BOB)).inbox)
        self._delivered = len(inbox)
        if self._delivered + self._relayed < self._acknowledged:
            wrong.append(f"{self._acknowledged} acknowledged, {self._delivered} delivered, {self._relayed} relayed")
        checker = StorageChecker(office.settings.data)
        wrong += [problem.what for problem in checker.problems(lambda done, total: None) if not problem.harmless]
        checker.close()
        return wrong


def main() -> None:
    """Run, print, and say by the exit status whether everything was given back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=200_000)
    parser.add_argument("--slack", type=int, default=16, help="MiB of memory that may be more afterwards")
    arguments = parser.parse_args()
    logging.getLogger("waypost").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="waypost-soak-") as folder:
        soak = Soak(Path(folder), arguments.connections, arguments.slack)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(soak.run())
    print(json.dumps(figures, indent=2))
    raise SystemExit(1 if figures["wrong"] else 0)


if __name__ == "__main__":
    main()
