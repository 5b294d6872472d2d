"""`waypost session` and the closing of accounts, with a real service of two workers: each confirms, or is named."""

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.running import Service, wait_for

ALICE = "alice@builder.test"
PASSWORD = "curiouser and curiouser"
MAIN = "import sys; from waypost.cli import main, workers; workers.PATIENCE = float(sys.argv.pop(1)); main()"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    service.configure(listeners={"127.0.0.1:0": "submissions"}, workers=2)
    waypost(service, "account", "add", ALICE, "--password-stdin")
    service.start()
    yield service
    for pid in service.workers().values():
        os.kill(pid, signal.SIGCONT)
    service.end()


def waypost(
    service: Service, *words: str, status: int = 0, patience: float = 30.0, said: str = PASSWORD
) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator does, with that much patience for workers; `said` is typed."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, str(patience), *words, "--config", str(service.config)],
        input=said + "\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def logged_in(service: Service) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = context.wrap_socket(socket.create_connection(("127.0.0.1", service.port), timeout=30))
    plain = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
    client.sendall(f"EHLO laptop.test\r\nAUTH PLAIN {plain}\r\n".encode())
    said = b""
    while b"235 " not in said:
        said += client.recv(4096)
    return client


def rest(client: ssl.SSLSocket) -> bytes:
    octets = b""
    while part := client.recv(4096):
        octets += part
    client.close()
    return octets


def test_sessions_of_all_workers_are_seen_and_end_with_their_account(service: Service) -> None:
    clients = [logged_in(service) for _ in range(6)]
    listed = json.loads(waypost(service, "session", "list", "--json").stdout)
    assert len(listed) == 6
    assert {row["account"] for row in listed} == {ALICE}
    assert {row["protocol"] for row in listed} == {"submissions"}
    table = waypost(service, "session", "list").stdout
    assert table.count(ALICE) == 6 and "idle" in table
    done = waypost(service, "session", "end", listed[0]["id"], "--yes")
    assert done.stdout == "Ended 1 session.\n"
    asked = waypost(service, "session", "end", "--account", ALICE, status=1, said="n")
    assert "End 5 sessions?" in asked.stderr and "nothing was done" in asked.stderr
    waypost(service, "session", "end", status=2)
    done = waypost(service, "account", "disable", ALICE)
    assert done.stdout == f"{ALICE} is disabled.\nEnded 5 sessions of {ALICE}.\n"
    ends = sorted(rest(client).split(b"\r\n")[-2][:9] for client in clients)
    assert ends == [b"421 4.3.2"] + [b"421 4.7.0"] * 5
    assert json.loads(waypost(service, "session", "list", "--json").stdout) == []
    for which in (["1.1"], ["1.1", "--yes"]):
        assert "there is no session 1.1; " in waypost(service, "session", "end", *which, status=1).stderr


def test_a_worker_that_hangs_is_named_and_commits_nothing_when_it_goes_on(service: Service) -> None:
    clients = [logged_in(service) for _ in range(2)]
    for client in clients:
        client.sendall(f"MAIL FROM:<{ALICE}>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\nFrom: {ALICE}\r\n\r\nhello\r\n".encode())
        said = b""
        while b"354 " not in said:
            said += client.recv(4096)
    for pid in service.workers().values():
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(_stopped(pid) for pid in service.workers().values()), "workers that hang")
    for client in clients:
        client.sendall(b".\r\n")  # it is in the worker's socket before the account is closed
    done = waypost(service, "account", "disable", ALICE, status=1, patience=0.3)
    assert done.stdout == f"{ALICE} is disabled.\n"
    for number, pid in service.workers().items():
        assert f"worker {number} (process {pid})" in done.stderr
    assert "not confirmed" in done.stderr and done.stderr.count("\n") == 1
    for pid in service.workers().values():
        os.kill(pid, signal.SIGCONT)
    assert [rest(client)[:9] for client in clients] == [b"421 4.7.0"] * 2
    listed = json.loads(waypost(service, "account", "list", "--json").stdout)
    assert [account["usage"] for account in listed] == [0]
    assert service.events("message accepted") == []


def test_a_new_password_and_a_removal_end_sessions_too(service: Service) -> None:
    client = logged_in(service)
    done = waypost(service, "account", "passwd", ALICE, "--password-stdin")
    assert done.stdout == f"The password of {ALICE} is changed.\nEnded 1 session of {ALICE}.\n"
    assert rest(client).startswith(b"421 4.7.0")
    client = logged_in(service)
    done = waypost(service, "account", "remove", ALICE, "--yes")
    assert done.stdout == f"Removed {ALICE}.\nEnded 1 session of {ALICE}.\n"
    assert rest(client).startswith(b"421 4.7.0")


def test_without_a_service_accounts_change_and_sessions_cannot_be_asked_for(tmp_path: Path) -> None:
    service = Service(tmp_path)
    waypost(service, "account", "add", ALICE, "--password-stdin")
    assert waypost(service, "account", "disable", ALICE).stdout == f"{ALICE} is disabled.\n"
    assert "no service runs" in waypost(service, "session", "list", status=1).stderr
    assert "no service runs" in waypost(service, "session", "end", "--account", ALICE, "--yes", status=1).stderr


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
