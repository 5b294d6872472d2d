"""Waypost as a contender: as it is installed, default settings but for names, ports and limits."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw

from bench.harness import wait_until
from bench.meter import cpu_of_session, memory_of_session
from bench.world import DOMAIN, PASSWORD, World
from waypost.login.passwords import make_credentials
from waypost.message.trace import Micros
from waypost.storage import Alias
from waypost.storage.sqlite import SqliteStorage, open_storage

_AT_ONCE = 500
_COMMAND_LINE = 1023

Sections = Mapping[str, Mapping[str, Any]]
"""Further settings: section -> key -> value."""


class WaypostContender:
    """A Waypost service of its own."""

    name = "waypost"

    def __init__(
        self,
        directory: Path,
        world: World,
        *,
        address: str = "127.0.8.1",
        port: int = 25,
        settings: Sections | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory / "waypost"
        self.address = address
        self.port = port
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._reading: apsw.Connection | None = None
        self.config = self.directory / "waypost.toml"
        self.command("init", str(self.directory), "--domain", DOMAIN, "--hostname", "mx.bench.test", configured=False)
        self.config.write_text(self._configuration(world, settings or {}))
        asyncio.run(self._people(world))

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        return os.environ | self._environment

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def tls(self) -> Path:
        """The folder with the certificate and its key."""
        return self.directory / "tls"

    @property
    def pid(self) -> int:
        """The supervisor's process id. Raises `RuntimeError` when it does not run."""
        if self._process is None:
            raise RuntimeError("the service does not run")
        return self._process.pid

    def _configuration(self, world: World, settings: Sections) -> str:
        # Relaying for strangers is never possible, so a domain with a way of its own is one that is hosted elsewhere.
        top = {"hostname": "mx.bench.test", "domains": [DOMAIN, *world.ways], "data": "data"}
        listeners = [{"protocol": "smtp", "address": f"{self.address}:{self.port}"}]
        if world.pop3:
            listeners.append({"protocol": "pop3s", "address": f"{self.address}:995"})
        if world.submission:
            listeners.append({"protocol": "submissions", "address": f"{self.address}:465"})
            listeners.append({"protocol": "submission", "address": f"{self.address}:587"})
        sections: dict[str, dict[str, Any]] = {
            "tls": {"certificate": "tls/cert.pem", "key": "tls/key.pem"},
            "limits": {"transactions": 1_000_000},
            "outbound": {"allow_private_addresses": True, "port": world.port},
        }
        if world.nameserver:
            sections["dns"] = {"servers": [f"{world.nameserver}:53"]}
        for name, values in settings.items():
            sections[name] = sections.get(name, {}) | dict(values)
        text = _table(top) + "".join(f"[[listener]]\n{_table(listener)}" for listener in listeners)
        for domain, (host, port) in world.ways.items():
            text += f"[[route]]\n{_table({'domains': [domain], 'host': f'[{host}]', 'port': port})}"
        return text + "".join(f"[{name}]\n{_table(values)}" for name, values in sections.items())

    async def _people(self, world: World) -> None:
        opened = await self.open()
        directory = opened.storage.directory
        credentials = make_credentials(PASSWORD)
        for number in range(world.mailboxes):
            await directory.add_account(f"user{number}@{DOMAIN}", credentials, quota=0, now=now())
        aliases = [Alias(f"{local}@{DOMAIN}", (target,)) for local, target in world.aliases.items()]
        for start in range(0, len(aliases), _AT_ONCE):
            await asyncio.gather(*map(directory.set_alias, aliases[start : start + _AT_ONCE]))
        await opened.close()

    async def open(self) -> SqliteStorage:
        """Open its storage, while it does not run."""
        return await open_storage(
            self.data, now=now, worker=_COMMAND_LINE, publish=lambda notice: None, memory_per_message=1 << 20
        )

    def start(self, *, ready: bool = True) -> None:
        """Start; returns when it says that it is ready, or at once without `ready`. Raises `RuntimeError`."""
        path = self.directory / "notify.sock"
        path.unlink(missing_ok=True)
        log = self.directory / "log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("ab") as output:
            notify.bind(str(path))
            notify.setblocking(False)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "waypost", "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=self.environment | {"NOTIFY_SOCKET": str(path)},
            )
            if ready:
                wait_until(lambda: self._said_ready(notify), seconds=60, what="waypost is ready")

    def _said_ready(self, notify: socket.socket) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError("waypost ended at once")
        try:
            return b"READY=1" in notify.recv(4096)
        except BlockingIOError:
            return False

    def stop(self) -> None:
        """Stop gracefully; nothing happens when it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(120)
            self._process = None

    def log(self) -> str:
        """Return its log."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def command(self, *arguments: str, configured: bool = True) -> str:
        """Run a `waypost` command; return what it printed. Raises `RuntimeError` with its words."""
        config = ("--config", str(self.config)) if configured else ()
        done = subprocess.run(
            [sys.executable, "-m", "waypost", *arguments, *config], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"waypost {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def one(self, sql: str, *values: Any) -> int:
        """Return the number that a statement gives, from the service's own database."""
        if self._reading is None:
            self._reading = apsw.Connection(str(self.data / "waypost.db"), flags=apsw.SQLITE_OPEN_READWRITE)
        return int(self._reading.execute(sql, values).get or 0)

    def delivered(self) -> int:
        """Return how many messages are in mailboxes."""
        return self.one("SELECT count(*) FROM mailbox_message")

    def queued(self, destination: str | None = None) -> int:
        """Return how many entries wait, of all destinations or of one."""
        if destination is None:
            return self.one("SELECT count(*) FROM entry")
        return self.one("SELECT count(*) FROM entry WHERE destination = ?", destination)

    def cpu(self) -> float:
        """Return the CPU seconds of supervisor and workers."""
        return cpu_of_session(self.pid)

    def memory(self, field: str = "Rss") -> int:
        """Return the octets that supervisor and workers have in memory."""
        return memory_of_session(self.pid, field)


def now() -> Micros:
    """Return the time as storage writes it."""
    return time.time_ns() // 1000


def _table(values: Mapping[str, Any]) -> str:
    """Numbers, texts and lists of them are written in TOML as in JSON."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
