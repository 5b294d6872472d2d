"""What one worker has found out about logins the others know, and those after a reload; a restart keeps the networks.

A check of a password takes 64 MiB for a moment, which nothing else in these workers does: so it is seen from outside.
"""

import contextlib
import os
import poplib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.service.running import PATIENCE, Service, wait_for
from tests.service.sessions import client_context

PASSWORD = "can we fix it?"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    made.configure(listeners={"127.0.0.1:0": "pop3s"}, workers=1)
    made.start()
    command = [sys.executable, "-m", "waypost", "account", "--config", str(made.config)]
    for name in ("bob", "wendy"):
        words = [*command[:4], "add", f"{name}@builder.test", "--password-stdin", *command[4:]]
        subprocess.run(words, input=PASSWORD + "\n", text=True, check=True, capture_output=True, timeout=PATIENCE)
    yield made
    made.end()


def log_in(service: Service, name: str, password: str = PASSWORD) -> bool:
    client = poplib.POP3_SSL("127.0.0.1", service.port, timeout=PATIENCE, context=client_context())
    try:
        client.user(f"{name}@builder.test")
        return client.pass_(password).startswith(b"+OK")
    except poplib.error_proto:
        return False
    finally:
        with contextlib.suppress(poplib.error_proto, OSError):
            client.quit()


def checked(service: Service) -> bool:
    """Whether the worker has checked any password."""
    (pid,) = service.workers().values()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    most, now = (int(status[name].split()[0]) for name in ("VmHWM", "VmRSS"))
    return most - now > 50_000


def reload(service: Service) -> None:
    service.signal(signal.SIGHUP)
    service.until("RELOADING=1")
    service.until("READY=1")
    wait_for(lambda: len(service.workers()) == 1, "the old worker ends")


def test_a_password_that_was_verified_is_not_checked_again_after_a_reload(service: Service) -> None:
    assert log_in(service, "bob") and checked(service)
    reload(service)
    assert log_in(service, "bob") and not checked(service)
    assert not log_in(service, "bob", "wrong") and checked(service)
    reload(service)
    assert not log_in(service, "bob", "wrong") and not checked(service), "nor one that was wrong"
    assert log_in(service, "wendy") and checked(service)


def test_a_network_from_which_somebody_has_logged_in_is_a_row(service: Service) -> None:
    assert not log_in(service, "wendy", "wrong")
    assert log_in(service, "bob")
    connection = apsw.Connection(str(service.folder / "data/waypost.db"))
    rows = connection.execute("SELECT account, network FROM known_network").fetchall()
    connection.close()
    assert rows == [("bob@builder.test", "127.0.0.1")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees what memory a worker has")
def test_nothing_of_the_shared_memory_is_on_disk(service: Service) -> None:
    """It is made with no name: a worker has it by a descriptor alone."""
    (pid,) = service.workers().values()
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "/memfd:waypost-logins (deleted)" in maps
