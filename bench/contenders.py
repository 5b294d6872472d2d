"""The two servers that take turns: a Waypost and a Postfix, each fresh, each with the same mailboxes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import apsw
from tests.peers.postfix import Postfix
from waypost.login.passwords import make_credentials

from bench.harness import cpu_of_group, wait_until
from waypost.storage import Alias
from waypost.storage.sqlite import open_storage

DOMAIN = "bench.test"
PASSWORD = "bench-password"


class Contender(Protocol):
    """A mail server under test."""

    name: str
    address: str
    port: int

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def delivered(self) -> int:
        """Messages that are durably in mailboxes."""
        ...

    def queued(self) -> int:
        """Messages that wait in the queue."""
        ...

    def cpu(self) -> float:
        """CPU seconds of all its processes so far."""
        ...


class WaypostContender:
    """Waypost as it is installed: its own processes, default settings but for names, ports and limits."""

    name = "waypost"

    def __init__(
        self,
        directory: Path,
        *,
        address: str = "127.0.8.1",
        port: int = 25,
        mailboxes: int = 100,
        aliases: int = 0,
        domains: tuple[str, ...] = (),
        extra: str = "",
    ) -> None:
        self.directory = directory / "waypost"
        self.address = address
        self.port = port
        subprocess.run(
            [sys.executable, "-m", "waypost", "init", str(self.directory)]
            + ["--domain", DOMAIN, "--hostname", "mx.bench.test"],
            check=True,
            capture_output=True,
        )
        self.config = self.directory / "waypost.toml"
        hosted = ", ".join(f'"{domain}"' for domain in (DOMAIN, *domains))
        self.config.write_text(
            f'hostname = "mx.bench.test"\ndomains = [{hosted}]\ndata = "data"\n'
            f'[[listener]]\nprotocol = "smtp"\naddress = "{address}:{port}"\n'
            f'[[listener]]\nprotocol = "pop3"\naddress = "{address}:110"\n'
            '[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\n'
            f"[limits]\ntransactions = 1000000\n{extra}"
        )
        asyncio.run(self._people(mailboxes, aliases))
        self._process: subprocess.Popen[bytes] | None = None
        self._count: apsw.Connection | None = None

    async def _people(self, mailboxes: int, aliases: int) -> None:
        opened = await open_storage(
            self.directory / "data",
            now=lambda: time.time_ns() // 1000,
            worker=1023,
            publish=lambda notice: None,
            memory_per_message=1 << 20,
        )
        credentials = make_credentials(PASSWORD)
        directory = opened.storage.directory
        for number in range(mailboxes):
            await directory.add_account(f"user{number}@{DOMAIN}", credentials, quota=0, now=time.time_ns() // 1000)
        for start in range(1, aliases + 1, 500):
            await asyncio.gather(
                *(
                    directory.set_alias(Alias(f"{n}user@{DOMAIN}", (f"user{n % mailboxes}@{DOMAIN}",)))
                    for n in range(start, min(start + 500, aliases + 1))
                )
            )
        await opened.close()

    def start(self) -> None:
        """Start; returns when it says that it is ready."""
        path = self.directory / "notify.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(path))
            notify.settimeout(60)
            log = (self.directory / "log").open("ab")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "waypost", "serve", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"NOTIFY_SOCKET": str(path)},
            )
            log.close()
            while b"READY=1" not in notify.recv(4096):
                continue
        path.unlink()

    def stop(self) -> None:
        """Stop gracefully."""
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def _one(self, sql: str) -> int:
        if self._count is None:
            database = self.directory / "data" / "waypost.db"
            self._count = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
        row = self._count.execute(sql).get
        return int(row)

    def delivered(self) -> int:
        return self._one("SELECT count(*) FROM mailbox_message")

    def queued(self) -> int:
        return self._one("SELECT count(*) FROM entry")

    def cpu(self) -> float:
        return cpu_of_group(self.pid)


class PostfixContender:
    """Postfix as Debian configures it, with Maildir mailboxes."""

    name = "postfix"

    def __init__(
        self,
        directory: Path,
        *,
        address: str = "127.0.8.2",
        port: int = 25,
        mailboxes: int = 100,
        aliases: int = 0,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.address = address
        self.port = port
        self._mailboxes = mailboxes
        self._postfix = Postfix(
            directory / "postfix",
            hostname="mx.postfix.test",
            domain=DOMAIN,
            address=address,
            port=port,
            mailboxes=tuple(f"user{n}" for n in range(mailboxes)),
            settings={
                "smtpd_client_connection_count_limit": "0",
                "smtpd_client_connection_rate_limit": "0",
                "message_size_limit": "52428800",
                "mailbox_size_limit": "0",
                "virtual_mailbox_limit": "0",
            }
            | (settings or {}),
            smtpd_limit="300",
        )
        if aliases:
            maps = self._postfix.config / "mailboxes"
            maps.write_text(
                "".join(f"{n}user@{DOMAIN} user{n % mailboxes}/\n" for n in range(1, aliases + 1))
                + "".join(f"user{n}@{DOMAIN} user{n}/\n" for n in range(mailboxes))
            )

    def start(self) -> None:
        """Start; returns when it listens."""
        self._postfix.start()

    def stop(self) -> None:
        """Stop and wait until its master is gone."""
        self._postfix.stop()
        pid = self._postfix.directory / "queue/pid/master.pid"
        wait_until(lambda: not self._alive(pid), seconds=30, what="postfix stops")

    @staticmethod
    def _alive(pidfile: Path) -> bool:
        try:
            os.kill(int(pidfile.read_text()), 0)
        except (OSError, ValueError):
            return False
        return True

    def delivered(self) -> int:
        total = 0
        for user in range(self._mailboxes):
            try:
                total += len(os.listdir(self._postfix.mail / f"user{user}" / "new"))
            except FileNotFoundError:
                continue
        return total

    def queued(self) -> int:
        queue = self._postfix.directory / "queue"
        return sum(len(files) for part in ("incoming", "active", "deferred") for _, _, files in os.walk(queue / part))

    def cpu(self) -> float:
        master = int((self._postfix.directory / "queue/pid/master.pid").read_text())
        return cpu_of_group(master)
