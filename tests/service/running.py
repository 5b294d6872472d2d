"""A real service in a folder of its own: started, signalled and watched as an operator's machine would."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from waypost.service.machine.certificates import self_signed

PATIENCE = 60.0
HOSTNAME = "mx.builder.test"


def wait_for(reached: Callable[[], Any], what: str) -> Any:
    """Poll until something is true of other processes, which send no events; return it."""
    deadline = time.monotonic() + PATIENCE
    while not (value := reached()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not reached")
        time.sleep(0.02)
    return value


class Service:
    """`waypost serve` on port 0 of 127.0.0.1, unless the configuration says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "waypost.toml"
        self.log = folder / "service.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._notify: socket.socket | None = None
        self.said: list[str] = []
        for parent in (folder, *folder.parents):  # the workers' user must get here
            if os.geteuid() == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        self.certificate()
        self.configure()

    def certificate(self) -> bytes:
        """Make a new certificate; return it as PEM."""
        (self.folder / "tls").mkdir(exist_ok=True)
        certificate, key = self_signed([HOSTNAME], datetime.now(UTC))
        (self.folder / "tls/cert.pem").write_bytes(certificate)
        (self.folder / "tls/key.pem").write_bytes(key)
        (self.folder / "tls/key.pem").chmod(0o600)
        return certificate

    def configure(
        self, *, listeners: dict[str, str] | None = None, workers: int = 2, more: str = "", hostname: str = HOSTNAME
    ) -> None:
        """Write the configuration; `listeners` are protocols by address."""
        listeners = {"127.0.0.1:0": "smtp"} if listeners is None else listeners
        self.config.write_text(
            f'hostname = "{hostname}"\ndomains = ["builder.test"]\ndata = "data"\n'
            + "".join(f'[[listener]]\nprotocol = "{p}"\naddress = "{a}"\n' for a, p in listeners.items())
            + '[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\n'
            + f'[dns]\nservers = ["127.0.0.1:9"]\n[service]\nworkers = {workers}\nstop_grace = "5s"\n{more}'
        )

    def command(self) -> list[str]:
        return [sys.executable, "-m", "waypost", "serve", "--config", str(self.config)]

    def start(self, **environment: str) -> None:
        """Start, and return when it says READY."""
        if self._notify is not None:
            self._notify.close()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind("")  # the kernel gives it a name, however long the folder's is
        name = "@" + self._notify.getsockname()[1:].decode()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stderr=log,
                stdout=log,
                env=os.environ | {"NOTIFY_SOCKET": name} | environment,
                start_new_session=True,
            )
        self.until("READY=1")

    def until(self, words: str) -> str:
        """Wait for a notification that has these words; return it."""
        assert self.process is not None
        assert self._notify is not None
        while True:
            if not select.select([self._notify], [], [], 0.1)[0]:
                assert self.process.poll() is None, self.log.read_text()
                continue
            said = self._notify.recv(4096).decode()
            self.said.append(said)
            if words in said:
                return said

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return the exit status."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        if self._notify is not None:
            self._notify.close()

    @property
    def state(self) -> dict[str, Any]:
        """What `service.json` says now."""
        state = json.loads((self.folder / "data/run/service.json").read_text())
        assert isinstance(state, dict)
        return state

    def ports(self) -> list[int]:
        return [int(listener["address"].rpartition(":")[2]) for listener in self.state["listeners"]]

    @property
    def port(self) -> int:
        """The first listener's."""
        return self.ports()[0]

    def workers(self) -> dict[int, int]:
        """Process ids by number."""
        return {worker["number"]: worker["pid"] for worker in self.state["workers"]}

    def events(self, event: str, count: int = 0) -> list[dict[str, Any]]:
        """The lines of the log about one thing, when there are `count` of them at least."""

        def found() -> list[dict[str, Any]] | None:
            lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
            about = [line for line in lines if line["event"] == event]
            return about if len(about) >= count else None

        while (events := found()) is None:
            wait_for(lambda: found() is not None, f"{count} lines about {event}")
        return events


def alive(pid: int) -> bool:
    try:
        return " Z" not in re.sub(r"^.*\)", "", Path(f"/proc/{pid}/stat").read_text())[:3]
    except FileNotFoundError:
        return False
