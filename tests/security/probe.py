"""What somebody who took a worker over would try: reach for everything in sight, and write down what came of it.

Run inside of a confined process. It tells each attempt by name: True where it went through.
"""

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def attempts(data: Path, outside: Path, mail_port: int, other_port: int) -> dict[str, bool]:
    """Try it all. `outside` is a folder that this user may use, with a file `letter` in it."""
    tries: dict[str, Callable[[], object]] = {
        "read our data": lambda: (data / "probe").write_text("x") and (data / "probe").read_text(),
        "rename in our data": lambda: ((data / "sub").mkdir(), (data / "probe").rename(data / "sub/probe")),
        "remove from our data": lambda: shutil.rmtree(data / "sub"),
        "read memory without a name": _memory,
        "read the resolver's configuration": lambda: Path("/etc/resolv.conf").read_bytes(),
        "read the certificate authorities": lambda: os.listdir("/etc/ssl/certs"),
        "connect to a mail server": lambda: socket.create_connection(("127.0.0.1", mail_port), timeout=5).close(),
        "connect from a port that the system chooses": lambda: _from_any_port(mail_port),
        # What follows must fail.
        "read a file of our user": lambda: (outside / "letter").read_text(),
        "list a folder of our user": lambda: os.listdir(outside),
        "write a file of our user": lambda: (outside / "letter").write_text("forged"),
        "make a file of our user": lambda: (outside / "new").write_text("x"),
        "make a folder of our user": lambda: (outside / "folder").mkdir(),
        "remove a file of our user": lambda: (outside / "letter").unlink(),
        "move a file out of our data": lambda: _move_out(data, outside),
        "link a file into our data": lambda: os.link(outside / "letter", data / "letter"),
        "read by a link in our data": lambda: (data / "planted").read_text(),
        "make a link in our data": lambda: (data / "etc").symlink_to("/etc"),
        "make a device": lambda: os.mkfifo(data / "fifo"),
        "read the list of users": lambda: Path("/etc/passwd").read_text(),
        "read the passwords": lambda: Path("/etc/shadow").read_text(),
        "use the folder for temporary files": lambda: tempfile.mkstemp(dir="/tmp"),
        "read the environment of the supervisor": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "list the processes": lambda: os.listdir("/proc"),
        "run a program": lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}),
        "signal the supervisor": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "take a port": lambda: _take_port(other_port),
        "connect to another service": lambda: socket.create_connection(("127.0.0.1", other_port), timeout=5).close(),
    }
    return {name: _went_through(work) for name, work in tries.items()}


ALLOWED = 8
"""So many of the first must go through, and no other."""


def _went_through(work: Callable[[], object]) -> bool:
    try:
        work()
    except OSError:
        return False
    return True


def _memory() -> None:
    fd = os.memfd_create("probe")
    Path(f"/proc/self/fd/{fd}").read_bytes()
    os.close(fd)


def _from_any_port(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=5, source_address=("127.0.0.1", 0)).close()


def _move_out(data: Path, outside: Path) -> None:
    (data / "note").write_text("x")
    (data / "note").rename(outside / "note")


def _take_port(port: int) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.2", port))
