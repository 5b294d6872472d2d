"""Postgrey, a greylisting policy server that nobody here wrote: Postfix asks it at each RCPT TO."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from tests.peers.processes import end, listens


class Postgrey:
    """Greylists each (client address, sender, recipient) for `delay` seconds, on `address`:`port`.

    It looks at whole client addresses, and trusts no client for its good manners.
    """

    def __init__(self, directory: Path, *, address: str, port: int = 10023, delay: int = 1) -> None:
        self.address = address
        self.port = port
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        nobody = directory / "nobody"
        nobody.touch()
        user = pwd.getpwnam("postgrey")
        os.chown(directory, user.pw_uid, user.pw_gid)
        self._command = [
            shutil.which("postgrey") or "/usr/sbin/postgrey",
            f"--inet={address}:{port}",
            f"--dbdir={directory}",
            f"--delay={delay}",
            "--lookup-by-host",
            "--auto-whitelist-clients=0",
            f"--whitelist-clients={nobody}",
            f"--whitelist-recipients={nobody}",
        ]

    @property
    def policy(self) -> str:
        """What Postfix calls it in its restrictions."""
        return f"check_policy_service inet:{self.address}:{self.port}"

    def start(self) -> None:
        """Start it; returns when it listens."""
        log = (self._directory / "postgrey.log").open("wb")
        self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        log.close()
        if not listens(self._process, self.address, self.port):
            words = (self._directory / "postgrey.log").read_text(errors="replace")
            self.stop()
            raise RuntimeError(f"postgrey does not answer on {self.address}:{self.port}: {words}")

    def stop(self) -> None:
        """Stop it, if it runs."""
        end(self._process)
        self._process = None
