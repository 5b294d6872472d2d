"""NSD, an authoritative name server that nobody here wrote, serving the zones of a test on loopback."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.peers.processes import end

_CONFIGURATION = """\
server:
    ip-address: {address}@{port}
    username: ""
    zonesdir: "{directory}"
    database: ""
    logfile: "{directory}/nsd.log"
    pidfile: "{directory}/nsd.pid"
    xfrdfile: "{directory}/xfrd.state"
    xfrdir: "{directory}"
    server-count: 1
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"""


class Nsd:
    """Serves `zones` (domain -> records in zone file form) on `address`:`port`."""

    def __init__(self, directory: Path, zones: Mapping[str, str], *, address: str, port: int = 53) -> None:
        self.directory = directory
        self.address = address
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        text = _CONFIGURATION.format(address=address, port=port, directory=directory)
        for domain, records in zones.items():
            zonefile = directory / f"{domain}.zone"
            zonefile.write_text(
                f"$ORIGIN {domain}.\n$TTL 60\n@ IN SOA ns.{domain}. hostmaster.{domain}. 1 60 60 60 1\n"
                f"@ IN NS ns.{domain}.\nns IN A {address}\n{records}\n"
            )
            text += f'zone:\n    name: "{domain}"\n    zonefile: "{zonefile}"\n'
        (directory / "nsd.conf").write_text(text)

    def start(self) -> None:
        """Start it; returns when it answers over TCP."""
        program = shutil.which("nsd") or "/usr/sbin/nsd"
        self._process = subprocess.Popen(
            [program, "-d", "-c", str(self.directory / "nsd.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((self.address, self.port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    words = self._process.stderr.read().decode() if self._process.stderr else ""
                    self.stop()
                    raise RuntimeError(f"nsd does not answer on {self.address}:{self.port}: {words}") from None
                self._pause()

    def _pause(self) -> None:
        assert self._process is not None
        try:  # wait for its end for a moment: it is the only event that nsd offers
            self._process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            return

    def stop(self) -> None:
        """Stop it, if it runs."""
        end(self._process)
        self._process = None
