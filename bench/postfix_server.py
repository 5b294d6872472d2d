"""Postfix as a contender: as Debian configures it, with limits raised where they would only stop the benchmark.

It syncs each message twice (queue file, mailbox), as Waypost must sync it once; nothing of that is switched off.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.peers.postfix import Postfix

from bench.harness import need, wait_until
from bench.meter import cpu_of_session
from bench.world import DOMAIN, World

_PROCESSES = "500"


class PostfixContender:
    """A private Postfix with Maildir mailboxes."""

    name = "postfix"

    def __init__(
        self, directory: Path, world: World, *, address: str = "127.0.8.2", port: int = 25, tls: Path | None = None
    ) -> None:
        """`tls` is a folder with `cert.pem` and `key.pem`."""
        need("postfix")
        self.address = address
        self.port = port
        self._mailboxes = world.mailboxes
        self._directory = directory / "postfix"
        config = self._directory / "etc"
        settings = {
            "smtpd_client_connection_count_limit": "0",
            "smtpd_client_connection_rate_limit": "0",
            "default_process_limit": _PROCESSES,
            "in_flow_delay": "0",  # it would hold senders back while deliveries lag
            "message_size_limit": "52428800",
            "mailbox_size_limit": "0",
            "virtual_mailbox_limit": "0",
            "virtual_mailbox_maps": f"hash:{config}/mailboxes",
            "virtual_alias_maps": f"hash:{config}/aliases",
            "smtp_tcp_port": str(world.port),
        }
        if world.ways:
            ways = ", ".join(f"{domain}=smtp:[{host}]:{port}" for domain, (host, port) in world.ways.items())
            settings["transport_maps"] = f"inline:{{ {ways} }}"
        if tls:
            settings |= self._certificate(tls)
        self._postfix = Postfix(
            self._directory,
            hostname="mx.postfix.test",
            domain=DOMAIN,
            address=address,
            port=port,
            nameserver=world.nameserver,
            settings=settings,
        )
        self._write_maps(config, world)

    def _certificate(self, tls: Path) -> dict[str, str]:
        folder = self._directory / "tls"
        shutil.copytree(tls, folder)
        return {
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": str(folder / "cert.pem"),
            "smtpd_tls_key_file": str(folder / "key.pem"),
        }

    @staticmethod
    def _write_maps(config: Path, world: World) -> None:
        """Aliases that end in a mailbox here are further names of it: a look-up less than an alias costs."""
        mailboxes = {f"user{number}@{DOMAIN}": f"user{number}/" for number in range(world.mailboxes)}
        aliases: dict[str, str] = {}
        for local, target in world.aliases.items():
            here = mailboxes.get(target)
            (aliases if here is None else mailboxes)[f"{local}@{DOMAIN}"] = here or target
        for name, entries in (("mailboxes", mailboxes), ("aliases", aliases)):
            path = config / name
            path.write_text("".join(f"{key} {value}\n" for key, value in entries.items()))
            subprocess.run([need("postmap"), "-c", str(config), f"hash:{path}"], check=True)

    def start(self) -> None:
        """Start; returns when it listens."""
        self._postfix.start()

    def stop(self) -> None:
        """Stop and wait until its master is gone."""
        self._postfix.stop()
        wait_until(lambda: not self._alive(), seconds=60, what="postfix stops")

    def log(self) -> str:
        """Return its log."""
        return self._postfix.log()

    def _master(self) -> int:
        return int((self._directory / "queue/pid/master.pid").read_text())

    def _alive(self) -> bool:
        try:
            os.kill(self._master(), 0)
        except (OSError, ValueError):
            return False
        return True

    def delivered(self) -> int:
        """Return how many files are in the mailboxes."""
        total = 0
        for user in range(self._mailboxes):
            folder = self._directory / "mail" / f"user{user}" / "new"
            total += len(os.listdir(folder)) if folder.is_dir() else 0
        return total

    def queued(self) -> int:
        """Return how many queue files there are."""
        queue = self._directory / "queue"
        return sum(len(files) for part in ("incoming", "active", "deferred") for _, _, files in os.walk(queue / part))

    def cpu(self) -> float:
        """Return the CPU seconds of master and all its children."""
        return cpu_of_session(self._master())
