"""What the service of two workers has in memory when it is idle: the proportional share (PSS) of each of its processes.

A page that several processes share counts in each of them for its part, so the sum is what the service takes.
"""

import smtplib
import time
from pathlib import Path

from bench.accept import VARIANTS, world_of
from bench.harness import judge, running, scratch, wait_until
from bench.meter import memory_of, processes_of_session
from bench.waypost_server import WaypostContender
from bench.world import DOMAIN

_WORKERS = 2
_MEGABYTE = 1_000_000
_BAR = 60  # megabytes
_SETTLING = 3.0  # seconds after the message
_SUPERVISOR = "supervisor"
_ROLES = {"waypost-forker": "fork server", "waypost-worker": "worker"}
"""What processes are by the names that they give themselves."""


def measure() -> None:
    """Start a service, have it accept and deliver one message, let it rest, and print what it takes."""
    with scratch() as folder:
        settings = {"service": {"workers": _WORKERS}}
        server = WaypostContender(folder, world_of(VARIANTS["main"], 1), settings=settings)
        with running(server):
            with smtplib.SMTP(server.address, server.port) as client:
                client.sendmail("alice@sender.test", [f"user0@{DOMAIN}"], "Subject: Hello\r\n\r\nHow are you?\r\n")
            wait_until(lambda: server.delivered() >= 1, seconds=60, what="the message is delivered")
            time.sleep(_SETTLING)
            shares = {pid: memory_of(pid, "Pss") for pid in sorted(processes_of_session(server.pid))}
            roles = {pid: _role(pid, server.pid) for pid in shares}
    each = ", ".join(f"{roles[pid]} {share / _MEGABYTE:.1f}" for pid, share in shares.items())
    judge(
        f"memory of an idle service with {_WORKERS} workers (PSS)", sum(shares.values()) / _MEGABYTE, "MB", below=_BAR
    )
    print(f"    {each}")


def _role(pid: int, supervisor: int) -> str:
    if pid == supervisor:
        return _SUPERVISOR
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    return _ROLES.get(name, name)
