"""What systemd is told (sd_notify(3)): ready, reloading, stopping, alive. Without a manager nothing is sent."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Speaks to the service manager that `environment` names."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._path = environment.get("NOTIFY_SOCKET", "")
        if self._path.startswith("@"):
            self._path = "\0" + self._path[1:]
        self._watchdog = environment.get("WATCHDOG_USEC", "")
        self._watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())

    @property
    def watchdog(self) -> float | None:
        """Seconds within which `alive` is expected again and again; None when nobody watches."""
        if not self._path or not self._watched or not self._watchdog.isdecimal() or int(self._watchdog) == 0:
            return None
        return int(self._watchdog) / 1_000_000

    def ready(self, status: str) -> None:
        """The service is up, or up again after a reload."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say in words how it is."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The service is going down."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Content the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._path:
            return
        # A manager that does not listen is no reason to do anything else than go on.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self._path)
            sock.sendall("\n".join(line.replace("\n", " ") for line in lines).encode())
