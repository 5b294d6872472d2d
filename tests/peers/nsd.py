"""NSD, an authoritative name server that nobody here wrote, serving the zones of a test on loopback."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.peers.processes import end, listens

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
        if not listens(self._process, self.address, self.port):
            words = self._process.stderr.read().decode() if self._process.stderr else ""
            self.stop()
            raise RuntimeError(f"nsd does not answer on {self.address}:{self.port}: {words}")

    def stop(self) -> None:
        """Stop it, if it runs."""
        end(self._process)
        self._process = None
