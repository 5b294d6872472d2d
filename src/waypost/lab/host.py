"""One host of the lab: a complete Waypost, with its own configuration, data, certificate and processes.

It is driven as an operator would drive it: by the command line and by signals.
"""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READY_TIMEOUT = 60.0
_COMMAND_TIMEOUT = 120.0


class LabError(Exception):
    """Something in the lab failed; the message names the host, the command and its error."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a lab host: the real ones as root, high ones otherwise."""

    smtp: int = 25
    submission: int = 587
    submissions: int = 465
    pop3: int = 110
    pop3s: int = 995


HIGH_PORTS = Ports(2525, 5870, 4650, 1100, 9950)
"""Ports for users other than root."""

_CONFIGURATION = """\
# A host of the lab: the schedules are much faster than a real one's.
hostname = "{hostname}"
domains = ["{domain}"]
data = "data"

[[listener]]
protocol = "smtp"
address = "{address}:{ports.smtp}"

[[listener]]
protocol = "submission"
address = "{address}:{ports.submission}"

[[listener]]
protocol = "submissions"
address = "{address}:{ports.submissions}"

[[listener]]
protocol = "pop3"
address = "{address}:{ports.pop3}"

[[listener]]
protocol = "pop3s"
address = "{address}:{ports.pop3s}"

[tls]
certificate = "tls/cert.pem"
key = "tls/key.pem"

[dns]
servers = ["{dns}"]

[outbound]
port = {ports.smtp}
allow_private_addresses = true

[[outbound.source]]
address = "{address}"

[queue]
retry = ["1s", "2s", "3s"]
delayed_notice = "4s"
expire = "9s"

[submission]
messages_per_hour = 100000
messages_per_day = 100000
recipients_per_hour = 100000
recipients_per_day = 100000

[service]
workers = 2
"""


class Host:
    """A Waypost host on one loopback address."""

    def __init__(self, directory: Path, *, hostname: str, domain: str, address: str, ports: Ports) -> None:
        self.directory = directory
        self.hostname = hostname
        self.domain = domain
        self.address = address
        self.ports = ports
        self._process: asyncio.subprocess.Process | None = None

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.directory / "waypost.toml"

    @property
    def certificate(self) -> Path:
        """The certificate, which the lab's clients trust."""
        return self.directory / "tls" / "cert.pem"

    @property
    def log(self) -> Path:
        """The service's log, as JSON lines."""
        return self.directory / "service.log"

    async def prepare(self, dns: str, people: Mapping[str, str], *, extra: str = "") -> None:
        """Make the host from nothing: `waypost init`, the lab's configuration, an account for each person.

        `dns` is the name server's address and port; `extra` is TOML that follows the lab's configuration.
        """
        await self._command("init", str(self.directory), "--domain", self.domain, "--hostname", self.hostname)
        self.config.write_text(
            _CONFIGURATION.format(
                hostname=self.hostname, domain=self.domain, address=self.address, ports=self.ports, dns=dns
            )
            + extra
        )
        await self.run("check")
        for person, password in people.items():
            await self.run("account", "add", person, "--password-stdin", stdin=password + "\n")

    async def start(self) -> None:
        """Start the service; return when it reports that it is ready (sd_notify). Raises `LabError`."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self.log.open("ab") as log:
            notify.bind("")  # the kernel gives it a name: a path may have only 107 octets (unix(7))
            notify.setblocking(False)
            name = "@" + notify.getsockname()[1:].decode()
            self._process = await asyncio.create_subprocess_exec(
                *self._program("serve", "--config", str(self.config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"NOTIFY_SOCKET": name},
                start_new_session=True,  # its own process group, so that all processes can be killed at once
            )
            ended = asyncio.create_task(self._process.wait())
            try:
                await asyncio.wait_for(self._until_ready(loop, notify, ended), _READY_TIMEOUT)
            except TimeoutError:
                raise LabError(f"{self.hostname} did not become ready; see {self.log}") from None
            finally:
                ended.cancel()

    async def _until_ready(
        self, loop: asyncio.AbstractEventLoop, notify: socket.socket, ended: asyncio.Task[int]
    ) -> None:
        while True:
            said = asyncio.create_task(loop.sock_recv(notify, 4096))
            await asyncio.wait({said, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not said.done():
                said.cancel()
                raise LabError(f"{self.hostname} ended with status {ended.result()}; see {self.log}")
            if b"READY=1" in said.result():
                return

    @property
    def pid(self) -> int:
        """The supervisor's process id. Raises `LabError` when the service was never started."""
        if self._process is None:
            raise LabError(f"{self.hostname} does not run")
        return self._process.pid

    async def stop(self) -> None:
        """Stop the service gracefully; do nothing if it does not run."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()

    async def kill(self) -> None:
        """`kill -9` of the supervisor and every worker in one moment."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def wait(self) -> None:
        """Return when the service has ended by itself."""
        if self._process is not None:
            await self._process.wait()

    async def run(self, *arguments: str, stdin: str = "") -> str:
        """Run a `waypost` command on this host; return what it printed. Raises `LabError`."""
        return await self._command(*arguments, "--config", str(self.config), stdin=stdin)

    async def json(self, *arguments: str) -> Any:
        """Run a `waypost` command with `--json`; return its value."""
        return json.loads(await self.run(*arguments, "--json"))

    async def client(self, *arguments: str, stdin: str = "", password: str) -> str:
        """Run a MUA command (`send`, `fetch`), which needs no configuration; return what it printed."""
        return await self._command(*arguments, stdin=stdin, WAYPOST_PASSWORD=password)

    async def _command(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *self._program(*arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | environment,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), _COMMAND_TIMEOUT)
        if process.returncode:
            words = err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
            raise LabError(f"{self.hostname}: waypost {shlex.join(arguments)}: {words}")
        return out.decode()

    @staticmethod
    def _program(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "waypost", *arguments]
