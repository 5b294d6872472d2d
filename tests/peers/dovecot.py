"""Dovecot as the other mailbox server: a private instance that serves POP3 over TLS from Maildirs.

Nothing of the machine's own Dovecot is touched. It is tuned as its manual says for many sessions: one login process a
core serves all of them, and mail processes are reused.
"""

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

from tests.peers.processes import end

_CONFIGURATION = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
protocols = pop3
listen = {address}
ssl = required
ssl_cert = <{tls}/cert.pem
ssl_key = <{tls}/key.pem
auth_mechanisms = plain
mail_location = maildir:{directory}/mail/%n
first_valid_uid = 1
mail_max_userip_connections = 0
maildir_very_dirty_syncs = yes
passdb {{
  driver = passwd-file
  args = {directory}/passwd
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={directory}/mail/%n
}}
service pop3-login {{
  service_count = 0
  process_min_avail = {cores}
  client_limit = 2000
  inet_listener pop3 {{
    port = 0
  }}
  inet_listener pop3s {{
    port = {port}
    ssl = yes
  }}
}}
service pop3 {{
  process_limit = 1024
  service_count = 100
}}
service anvil {{
  client_limit = 4000
}}
service auth {{
  client_limit = 4000
}}
"""
_USER = "nobody"


class Dovecot:
    """A Dovecot instance under `directory`: POP3 over TLS on `address`:`port`, a Maildir `mail/<user>` for each user.

    `tls` is a folder with `cert.pem` and `key.pem`; `users` are names, with or without a domain, and their passwords.
    """

    def __init__(self, directory: Path, *, address: str, tls: Path, users: dict[str, str], port: int = 995) -> None:
        self.directory = directory
        self.address = address
        self.port = port
        for folder in ("run", "state", "mail"):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        for ancestor in (directory, *directory.parents):
            if not ancestor.stat().st_mode & 0o001:  # pytest's folders are closed to others
                ancestor.chmod(ancestor.stat().st_mode | 0o011)
        (directory / "passwd").write_text("".join(f"{name}:{{PLAIN}}{word}\n" for name, word in users.items()))
        owner = pwd.getpwnam(_USER)
        self._config = directory / "dovecot.conf"
        self._config.write_text(
            _CONFIGURATION.format(
                directory=directory,
                address=address,
                port=port,
                tls=tls,
                user=owner.pw_uid,
                group=owner.pw_gid,
                cores=os.cpu_count() or 1,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The master's process id, which leads a session of its own. Raises `RuntimeError` when it does not run."""
        if self._process is None:
            raise RuntimeError("dovecot does not run")
        return self._process.pid

    def maildir(self, user: str) -> Path:
        """Return the Maildir of a user, made when there is none; `own` gives it to the mail processes."""
        path = self.directory / "mail" / user
        for folder in ("cur", "new", "tmp"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        return path

    def own(self) -> None:
        """Give everything below `mail` to the user that reads it."""
        subprocess.run(["chown", "-R", _USER, str(self.directory / "mail")], check=True)

    def start(self) -> None:
        """Start it; returns when it listens. Raises `RuntimeError` with its words."""
        program = shutil.which("dovecot") or "/usr/sbin/dovecot"
        self._process = subprocess.Popen(
            [program, "-F", "-c", str(self._config)], stderr=subprocess.PIPE, start_new_session=True
        )
        deadline = time.monotonic() + 30
        while not (self.directory / "run" / "master.pid").exists():  # written when the sockets listen
            self._pause(deadline)

    def _pause(self, deadline: float) -> None:
        assert self._process is not None
        if self._process.poll() is not None or time.monotonic() > deadline:
            words = self._process.stderr.read().decode() if self._process.stderr else ""
            self.stop()
            raise RuntimeError(f"dovecot does not start: {words}\n{self.log()}")
        time.sleep(0.05)

    def log(self) -> str:
        """Return its log."""
        path = self.directory / "dovecot.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """Stop it, if it runs; returns when all its processes are told and the master is gone."""
        end(self._process, seconds=60)
        self._process = None
