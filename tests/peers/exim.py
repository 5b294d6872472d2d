"""Exim as one more MTA that nobody here wrote: a private instance with its own configuration, spool and mailboxes.

Debian's package excludes Postfix, so `make tools` unpacks it beside the machine's programs and installs nothing. Exim
looks its user up by name when it starts: this instance sees a passwd that has one (a mount namespace).
"""

import grp
import os
import pwd
import socket
import subprocess
import time
from pathlib import Path

from tests.peers.processes import end

HOME = Path("/var/lib/waypost-tests/exim")
"""Where `tests/tools/ensure-exim` unpacks the packages."""

_PROGRAM = HOME / "usr/sbin/exim4"
_USER = "Debian-exim"  # compiled in
_CONFIGURATION = """\
exim_path = {program}
primary_hostname = {hostname}
spool_directory = {directory}/spool
log_file_path = {directory}/log/%s
pid_file_path = {directory}/exim.pid
local_interfaces = {address}
daemon_smtp_ports = {port}
tls_advertise_hosts =
chunking_advertise_hosts = {chunking}
host_lookup =
rfc1413_hosts =
keep_environment =
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
deliver_drop_privilege
acl_smtp_rcpt = recipient
begin acl
recipient:
  accept domains = {domain}
  deny message = relay not permitted
begin routers
people:
  driver = accept
  domains = {domain}
  local_parts = {people}
  transport = mailbox
begin transports
mailbox:
  driver = appendfile
  directory = {directory}/mail/$local_part_data
  maildir_format
"""


class Exim:
    """An Exim instance under `directory`, listening on `address`:`port`.

    `mailboxes` are the users of `domain`; their mail lands in `directory`/mail/<user>/new.
    `chunking` says whether it offers BDAT (RFC 3030).
    """

    def __init__(
        self,
        directory: Path,
        *,
        hostname: str,
        domain: str,
        address: str,
        mailboxes: tuple[str, ...],
        port: int = 25,
        chunking: bool = True,
    ) -> None:
        self.directory, self.domain, self.address, self.port = directory, domain, address, port
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration = directory / "exim.conf"
        directory.mkdir(parents=True)
        nobody, nogroup = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid
        self._accounts("passwd", f"{_USER}:x:{nobody}:{nogroup}::/nonexistent:/usr/sbin/nologin\n")
        self._accounts("group", f"{_USER}:x:{nogroup}:\n")
        for name in ("spool", "log", "mail"):
            (directory / name).mkdir()
            os.chown(directory / name, nobody, nogroup)
        self._configuration.write_text(
            _CONFIGURATION.format(
                program=_PROGRAM,
                hostname=hostname,
                directory=directory,
                address=address,
                port=port,
                chunking="*" if chunking else "",
                domain=domain,
                people=" : ".join(mailboxes),
            )
        )

    def _accounts(self, name: str, own: str) -> None:
        """Write the machine's passwd or group with the user in it; a machine that had Exim may know another one."""
        lines = Path("/etc", name).read_text().splitlines(keepends=True)
        others = [line for line in lines if not line.startswith(f"{_USER}:")]
        (self.directory / name).write_text("".join([*others, own]))

    def start(self) -> None:
        """Start it; returns when it listens. Raises `RuntimeError` with its words when it does not."""
        if not _PROGRAM.exists():
            raise RuntimeError(f"there is no Exim at {_PROGRAM}: `make tools` unpacks it")
        script = "".join(f'mount --bind "{self.directory / name}" /etc/{name} && ' for name in ("passwd", "group"))
        script += f'exec "{_PROGRAM}" -C "{self._configuration}" -bdf'
        libraries = ":".join(str(folder) for folder in HOME.glob("usr/lib/*-linux-gnu*"))
        self._process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
        )
        deadline = time.monotonic() + 20
        while not self._listens():
            try:  # wait for its end for a moment: it is the only event that it offers
                self._process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
            words = self._process.stderr.read().decode() if self._process.returncode and self._process.stderr else ""
            self.stop()
            raise RuntimeError(f"Exim does not answer on {self.address}:{self.port}: {words}{self.log()}")

    def _listens(self) -> bool:
        try:
            socket.create_connection((self.address, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Stop it, if it runs."""
        end(self._process)
        self._process = None

    def messages(self, user: str) -> list[bytes]:
        """Return the messages in a user's mailbox."""
        new = self.directory / "mail" / user / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def log(self) -> str:
        """Return its log."""
        folder = self.directory / "log"
        return "".join(path.read_text(errors="replace") for path in sorted(folder.iterdir()))
