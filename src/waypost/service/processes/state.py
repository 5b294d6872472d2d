"""What the service says of itself in `run/service.json`: what it serves and since when, and how the last reload went.

The file is read by `waypost status`, `waypost reload` and by commands that meet a broken configuration file. It speaks
of what is in force, not of what the files say meanwhile.
"""

import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from waypost import __version__
from waypost.config.settings import Settings
from waypost.protocol.x509 import first_certificate, read_certificate
from waypost.service.machine.secrets import Secrets


@dataclass(slots=True)
class ServiceState:
    """The part of `service.json` that workers and sockets don't change."""

    started: datetime
    reloads: int = 0
    """How many reloads have ended, well or badly."""
    failed_reload: dict[str, Any] | None = None
    """When the last reload failed, and why; None after one that succeeded."""
    _facts: dict[str, Any] = field(default_factory=dict)

    def in_force(self, settings: Settings, secrets: Secrets, now: datetime) -> None:
        """Describe the configuration that is in force from now on."""
        self._facts = {
            "configuration": {
                "path": str(settings.path.absolute()),
                "sha256": hashlib.sha256(settings.source).hexdigest(),
                "since": _text(now),
            },
            "certificate": settings.tls and _certificate(settings.tls.certificate, secrets.certificate),
        }

    def reloaded(self, problems: list[str], now: datetime) -> None:
        """A reload has ended."""
        self.reloads += 1
        self.failed_reload = {"at": _text(now), "problems": problems} if problems else None

    def as_json(self) -> dict[str, Any]:
        """Return it as it stands in the file."""
        return {
            "pid": os.getpid(),
            "process": process_identity(os.getpid()),
            "version": __version__,
            "started": _text(self.started),
            "reloads": self.reloads,
            "failed_reload": self.failed_reload,
            **self._facts,
        }


def process_identity(pid: int) -> str | None:
    """Return what tells a process from all others that have its number before or after it; None when it is gone, also
    when nobody has taken note of its end yet."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The 22nd field of stat is the start of the process, in ticks since the boot (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else f"{boot} {fields[19]}"
    except (OSError, IndexError):
        return None


def certificate_facts(pem: bytes) -> dict[str, Any]:
    """Return when a certificate begins and ends, and its fingerprint. Raises `ValueError` where PEM holds none."""
    found = read_certificate(first_certificate(pem))
    return {
        "begins": _text(found.begins),
        "expires": _text(found.expires),
        "sha256": hashlib.sha256(found.der).hexdigest(),
    }


def _certificate(path: Path, pem: bytes | None) -> dict[str, Any] | None:
    return {"path": str(path), **certificate_facts(pem)} if pem is not None else None


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
