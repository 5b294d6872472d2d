"""Postfix as the other MTA: a private instance with its own configuration, queue and mailboxes.

Nothing of the machine's own Postfix is touched. Its name servers are given by a resolv.conf that only this
instance sees (a mount namespace), because Postfix asks the C library.
"""

import os
import pwd
import shutil
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path

_SERVICES = """\
{address}:{port} inet n - n - {smtpd_limit} smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A Postfix instance under `directory`, listening on `address`:`port`.

    `mailboxes` are the users of `domain`; their mail lands in `directory`/mail/<user>/new.
    """

    def __init__(
        self,
        directory: Path,
        *,
        hostname: str,
        domain: str,
        address: str,
        port: int = 25,
        mailboxes: tuple[str, ...] = (),
        nameserver: str | None = None,
        settings: Mapping[str, str] | None = None,
        smtpd_limit: str = "-",
    ) -> None:
        self.directory = directory
        self.address = address
        self.port = port
        self.domain = domain
        self.mail = directory / "mail"
        self.config = directory / "etc"
        self._nameserver = nameserver
        self._write(hostname, mailboxes, dict(settings or {}), smtpd_limit)

    def _write(self, hostname: str, mailboxes: tuple[str, ...], extra: dict[str, str], smtpd_limit: str) -> None:
        user = pwd.getpwnam("postfix")
        for folder in (self.config, self.mail, self.directory / "queue", self.directory / "data"):
            folder.mkdir(parents=True, exist_ok=True)
        for ancestor in [self.directory, *self.directory.parents]:
            if not ancestor.stat().st_mode & 0o001:  # pytest's folders are closed to others
                ancestor.chmod(ancestor.stat().st_mode | 0o011)
        os.chown(self.directory / "data", user.pw_uid, user.pw_gid)
        os.chown(self.mail, user.pw_uid, user.pw_gid)
        maps = self.config / "mailboxes"
        maps.write_text("".join(f"{name}@{self.domain} {name}/\n" for name in mailboxes))
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(self.directory / "queue"),
            "data_directory": str(self.directory / "data"),
            "maillog_file": str(self.directory / "mail.log"),
            "maillog_file_prefixes": str(self.directory),
            "myhostname": hostname,
            "mydestination": "",
            "myorigin": self.domain,
            "inet_interfaces": "loopback-only",  # the listener itself is in master.cf
            "inet_protocols": "ipv4",
            "smtp_bind_address": self.address,
            "mynetworks": "127.0.0.0/8",
            "virtual_mailbox_domains": self.domain,
            "virtual_mailbox_base": str(self.mail),
            "virtual_mailbox_maps": f"texthash:{maps}",
            "virtual_minimum_uid": "1",
            "virtual_uid_maps": f"static:{user.pw_uid}",
            "virtual_gid_maps": f"static:{user.pw_gid}",
            "alias_maps": "",
            "alias_database": "",
            "smtp_tls_security_level": "may",
            "smtpd_peername_lookup": "no",
        } | extra
        (self.config / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
        (self.config / "master.cf").write_text(
            _SERVICES.format(address=self.address, port=self.port, smtpd_limit=smtpd_limit)
        )

    def start(self) -> None:
        """Start it; returns when it listens (Postfix's own start does). Raises with its words."""
        # The domain's mail servers are found by the system's resolver: give it one of its own.
        script = f'exec postfix -c "{self.config}" start'
        if self._nameserver:
            resolv = self.config / "resolv.conf"
            resolv.write_text(f"nameserver {self._nameserver}\noptions timeout:2 attempts:1\n")
            script = f'mount --bind "{resolv}" /etc/resolv.conf && {script}'
        self._run("unshare", "--mount", "sh", "-c", script)

    def stop(self) -> None:
        """Stop it, if it runs."""
        subprocess.run(["postfix", "-c", str(self.config), "stop"], capture_output=True, check=False)

    def reload(self) -> None:
        """Read its configuration again."""
        self._run("postfix", "-c", str(self.config), "reload")

    def flush(self) -> None:
        """Attempt everything that waits in its queue."""
        self._run("postqueue", "-c", str(self.config), "-f")

    def queue(self) -> str:
        """Return what waits in its queue, as `postqueue -p` prints it."""
        return self._run("postqueue", "-c", str(self.config), "-p")

    def messages(self, user: str) -> list[bytes]:
        """Return the messages in a user's mailbox, oldest first."""
        new = self.mail / user / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def log(self) -> str:
        """Return its log."""
        path = self.directory / "mail.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(
                textwrap.dedent(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}")
            )
        return done.stdout


def available() -> bool:
    """True when Postfix is installed and may be started here."""
    return shutil.which("postfix") is not None and os.geteuid() == 0
