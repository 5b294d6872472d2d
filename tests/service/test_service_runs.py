"""The service as a whole: it starts, stops, reloads, survives deaths, and gives up what it does not need."""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import uvloop
from tests.service.running import PATIENCE, Service, alive, wait_for

from waypost.service.processes import worker


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.end()


def dial(port: int) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=PATIENCE)
    client.ehlo("client.example.org")
    return client


def served_certificate(port: int) -> str:
    client = dial(port)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client.starttls(context=context)
    assert isinstance(client.sock, ssl.SSLSocket)
    octets = client.sock.getpeercert(binary_form=True)
    assert octets is not None
    client.close()
    return ssl.DER_cert_to_PEM_cert(octets)


def test_it_starts_says_so_and_stops(service: Service) -> None:
    service.start()
    state = service.state
    assert state["pid"] == service.process.pid  # type: ignore[union-attr]
    assert (state["generation"], [worker["number"] for worker in state["workers"]]) == (1, [0, 1])
    assert [listener["protocol"] for listener in state["listeners"]] == ["smtp"]
    assert service.said[-1].startswith("READY=1\nSTATUS=2 workers; smtp 127.0.0.1:")
    workers = service.workers().values()
    idle = dial(service.port)
    service.signal(signal.SIGTERM)
    service.until("STOPPING=1")
    assert idle.getreply()[0] == 421
    idle.close()
    assert service.wait() == 0
    assert not any(alive(pid) for pid in workers)
    assert not (service.folder / "data/run/service.json").exists()
    assert [event["signal"] for event in service.events("service stopping")] == ["SIGTERM"]


@pytest.mark.parametrize("said", [b"EHLO x\r\n", b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@builder.test>\r\nRSET\r\n"])
def test_workers_that_are_flooded_end_in_time(service: Service, said: bytes) -> None:
    service.configure(workers=1, more="[limits]\njunk_commands = 1000000000\nerrors = 1000000000\n")
    service.start()
    flooding = threading.Semaphore(0)

    def flood() -> None:
        with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as client:
            client.setblocking(True)
            threading.Thread(target=_pour, args=(client, b"EHLO x\r\n" + said * 1000), daemon=True).start()
            for _ in range(20):
                client.recv(1 << 16)
            flooding.release()
            with contextlib.suppress(ConnectionError):
                while client.recv(1 << 16):
                    pass

    floods = [threading.Thread(target=flood) for _ in range(4)]
    for one in floods:
        one.start()
    for _ in floods:
        assert flooding.acquire(timeout=PATIENCE)
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert service.events("workers killed") == [] and len(service.events("service stopped")) == 1
    for one in floods:
        one.join()


def _pour(client: socket.socket, octets: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            client.sendall(octets)


def test_each_worker_keeps_to_a_processor_of_its_own_where_every_processor_has_one(service: Service) -> None:
    processors = os.sched_getaffinity(0)
    service.configure(workers=0)
    service.start()
    found = [os.sched_getaffinity(pid) for pid in service.workers().values()]
    assert sorted(found, key=sorted) == [{processor} for processor in sorted(processors)]
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    with (service.folder / "data/run/worker-1.lock").open() as taken:  # as if a worker from before a reload had it
        fcntl.flock(taken, fcntl.LOCK_EX)
        service.start()
        assert 1 not in service.workers()
        found = [os.sched_getaffinity(pid) for pid in service.workers().values()]
    assert sorted(found, key=sorted) == [{processor} for processor in sorted(processors)]


def test_workers_have_no_privileges(service: Service) -> None:
    service.start()
    for pid in service.workers().values():
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["NoNewPrivs"] == "1"
        assert int(status["CapEff"], 16) == 0
        if os.geteuid() == 0:
            assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max core file size        0                    0" in limits
    if os.geteuid() == 0:
        assert (service.folder / "data").stat().st_uid != 0
        assert (service.folder / "tls/key.pem").stat().st_uid == 0


def test_a_stop_lets_a_message_arrive_first(service: Service) -> None:
    service.start()
    client = dial(service.port)
    client.docmd("MAIL FROM:<alice@example.org>")
    service.signal(signal.SIGTERM)
    service.until("STOPPING=1")
    wait_for(lambda: not _listens(service.process.pid, client), "the listeners are closed")  # type: ignore[union-attr]
    assert client.docmd("RSET")[0] == 250
    assert client.getreply()[0] == 421
    client.close()
    assert service.wait() == 0


def _listens(pid: int, client: smtplib.SMTP) -> bool:
    assert client.sock is not None
    try:
        socket.create_connection(client.sock.getpeername(), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_reload_changes_everything_and_drops_nobody(service: Service) -> None:
    service.start()
    port, before = service.port, service.workers()
    first = served_certificate(port)
    staying = dial(port)
    refused: list[OSError] = []
    over = threading.Event()

    def knock() -> None:
        while not over.is_set():
            try:
                with dial(port) as client:
                    client.noop()
            except (OSError, smtplib.SMTPException) as error:
                refused.append(error)

    knocking = threading.Thread(target=knock)
    knocking.start()
    second = service.certificate().decode()
    service.configure(listeners={"127.0.0.1:0": "smtp", "127.0.0.2:0": "pop3"}, hostname="mx2.builder.test")
    service.signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in service.until("RELOADING=1")
    service.until("READY=1")
    assert service.events("reload failed") == []
    wait_for(lambda: len(service.workers()) <= 3, "the idle old worker ends")
    over.set()
    knocking.join()
    assert refused == []

    assert service.state["generation"] == 2
    assert service.port == port
    assert served_certificate(port).strip() == second.strip() != first.strip()
    with dial(port) as client:
        assert client.ehlo()[1].startswith(b"mx2.builder.test")
    with socket.create_connection(("127.0.0.2", service.ports()[1]), timeout=PATIENCE) as pop3:
        assert pop3.recv(100).startswith(b"+OK")
    assert staying.noop()[0] == 250
    assert staying.ehlo()[1].startswith(b"mx.builder.test")  # the old configuration, to its end
    staying.quit()
    wait_for(lambda: set(service.workers().values()).isdisjoint(before.values()), "the old workers end")
    assert service.events("worker died") == []


def test_a_reload_closes_listeners_that_are_gone(service: Service) -> None:
    service.configure(listeners={"127.0.0.1:0": "smtp", "127.0.0.2:0": "pop3"}, workers=1)
    service.start()
    pop3 = service.ports()[1]
    service.configure(workers=1)
    service.signal(signal.SIGHUP)
    service.until("RELOADING=1")
    service.until("READY=1")
    wait_for(lambda: len(service.workers()) == 1, "the old worker ends")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", pop3), timeout=PATIENCE)
    with dial(service.port):
        pass


def test_a_reload_that_can_not_work_changes_nothing_and_says_why(service: Service) -> None:
    service.start()
    workers, port = service.workers(), service.port
    with socket.create_server(("127.0.0.3", 0)) as other:
        taken = other.getsockname()[1]
        service.configure(listeners={"127.0.0.1:0": "smtp", f"127.0.0.3:{taken}": "smtp"})
        service.signal(signal.SIGHUP)
        service.until("READY=1")
    service.config.write_text('hostname = "nonsense\nqueue.expire = 5')
    service.signal(signal.SIGHUP)
    service.until("RELOADING=1")
    service.until("READY=1")
    in_use, syntax = (event["problem"] for event in service.events("reload failed", 2))
    assert "the port is in use" in in_use
    assert "waypost.toml:1" in syntax
    assert service.workers() == workers
    with dial(port):
        pass


@contextmanager
def locked(folder: Path, numbers: range) -> Iterator[None]:
    """Hold the locks of workers with these numbers, in other processes, which together may open so many files."""
    program = (
        "import fcntl, os, sys\n"
        "for number in range(int(sys.argv[2]), int(sys.argv[3])):\n"
        "    fd = os.open(f'{sys.argv[1]}/worker-{number}.lock', os.O_RDWR | os.O_CREAT, 0o666)\n"
        "    fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with ExitStack() as holders:
        for begin in range(numbers.start, numbers.stop, 500):
            bounds = [str(begin), str(min(begin + 500, numbers.stop))]
            holder = holders.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, str(folder), *bounds], stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            )
            holders.callback(holder.kill)
            assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
        yield


def test_a_reload_whose_workers_do_not_all_start_drops_nobody(
    service: Service,
) -> None:
    service.configure(workers=1)
    service.start()
    before = set(service.workers().values())
    clients: list[smtplib.SMTP] = []

    def failed() -> bool:
        if len(clients) < 60:
            clients.append(dial(service.port))
        return bool(service.events("reload failed"))

    with locked(service.folder / "data/run", range(2, 1023)):  # all but one, as by workers of many reloads
        service.configure(workers=2)
        service.signal(signal.SIGHUP)
        wait_for(failed, "the reload fails")
        for client in clients:
            assert client.noop()[0] == 250, "also who was served by the new worker that did start"
            client.quit()
    assert before <= set(service.workers().values())
    service.signal(signal.SIGHUP)
    service.until("RELOADING=1")
    service.until("READY=1")
    assert len(service.events("reload failed")) == 1


def test_a_reload_for_which_the_machine_has_no_thread_ends_nothing(service: Service) -> None:
    service.configure(workers=1)
    service.start()
    assert service.process is not None
    pid = service.process.pid
    memory = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    limit = resource.prlimit(pid, resource.RLIMIT_AS, (memory + 2_000_000, resource.RLIM_INFINITY))
    service.signal(signal.SIGHUP)
    service.events("reload failed", 1)
    resource.prlimit(pid, resource.RLIMIT_AS, limit)
    with dial(service.port) as client:
        assert client.noop()[0] == 250
    service.signal(signal.SIGHUP)
    wait_for(lambda: service.state["generation"] > 1, "a reload that works")


def command(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program on the service's configuration."""
    return subprocess.run(
        [sys.executable, "-m", "waypost", *arguments, "--config", str(service.config)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_reload_command_returns_when_the_new_configuration_is_in_force(service: Service) -> None:
    service.configure(workers=1)
    service.start()
    served = service.certificate()
    service.configure(listeners={"127.0.0.1:0": "smtp", "127.0.0.2:0": "pop3"}, workers=1)
    before = json.loads(command(service, "status", "--json").stdout)
    assert before["configuration_changed"] is True and before["certificate"]["stale"] is True
    done = command(service, "reload")
    assert done.returncode == 0 and "is in force; it listens on smtp 127.0.0.1:" in done.stdout, done.stderr
    assert len(service.ports()) == 2 and served_certificate(service.port).strip() == served.decode().strip()
    after = json.loads(command(service, "status", "--json").stdout)
    assert after["configuration_changed"] is False and after["certificate"]["stale"] is False


def test_the_reload_command_fails_when_the_reload_does_and_status_tells_it_until_one_works(service: Service) -> None:
    service.configure(workers=1)
    service.start()
    (service.folder / "tls/key.pem").write_text("no key")
    failed = command(service, "reload")
    assert failed.returncode == 1
    assert "the certificate or its key can't be read" in failed.stderr and "goes on as before" in failed.stderr
    assert "`waypost check` says which" in failed.stderr and "_ssl.c" not in failed.stderr
    watched = command(service, "status", "--check")
    assert watched.returncode == 1 and "the reload at " in watched.stdout
    assert service.state["certificate"]["expires"] > "2030", "what is served, not what the files hold"
    service.certificate()
    assert command(service, "reload").returncode == 0
    assert command(service, "status", "--check").stdout == "OK: The queue is empty.\n"


def test_while_the_file_has_errors_commands_use_the_configuration_in_force(service: Service) -> None:
    service.configure(workers=1)
    service.start()
    service.config.write_text(service.config.read_text() + "[[listener]\n")
    listed = command(service, "queue", "list")
    assert listed.returncode == 0, listed.stderr
    assert "not TOML" in listed.stderr and "by which the service runs since" in listed.stderr
    assert command(service, "reload").returncode == 1
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert command(service, "queue", "list").returncode == 1
    assert command(service, "reload").returncode == 1


def test_the_reload_command_says_that_no_service_runs(service: Service) -> None:
    done = command(service, "reload")
    assert done.returncode == 1 and "no service runs on" in done.stderr


def test_a_worker_that_is_killed_is_replaced(service: Service) -> None:
    service.start()
    before = service.workers()
    os.kill(before[0], signal.SIGKILL)
    after = wait_for(
        lambda: (now := service.workers()) and 0 in now and now[0] != before[0] and now, "a new worker is there"
    )
    assert after[1] == before[1]
    (died,) = service.events("worker died", 1)
    assert died["how"] == "killed by SIGKILL"
    for _ in range(10):  # both sockets answer
        with dial(service.port):
            pass


def test_workers_end_when_their_supervisor_is_killed_and_a_new_service_starts(service: Service) -> None:
    service.start()
    port, workers = service.port, service.workers()
    os.kill(service.process.pid, signal.SIGKILL)  # type: ignore[union-attr]
    service.wait()
    service.configure(listeners={f"127.0.0.1:{port}": "smtp"})
    service.start()
    wait_for(lambda: not any(alive(pid) for pid in workers.values()), "the orphans end")
    with dial(port) as client:
        assert client.noop()[0] == 250


def test_a_second_service_on_the_same_data_is_refused(service: Service) -> None:
    service.start()
    second = subprocess.run(service.command(), capture_output=True, timeout=PATIENCE, check=False)
    assert second.returncode == 1
    assert second.stderr.decode().startswith("waypost: data: ")
    assert f"process {service.process.pid} serves it already" in second.stderr.decode()  # type: ignore[union-attr]
    with dial(service.port):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_second_service_for_another_user_takes_nothing_away(service: Service) -> None:
    service.configure(more='user = "nobody"\n')
    service.start()
    data = service.folder / "data"
    before = {path: path.lstat().st_uid for path in (data, *data.rglob("*"))}
    service.configure(more='user = "daemon"\n')
    second = subprocess.run(service.command(), capture_output=True, timeout=PATIENCE, check=False)
    assert second.returncode == 1 and "serves it already" in second.stderr.decode()
    assert {path: path.lstat().st_uid for path in before if path.exists()}.items() <= before.items()


def test_what_keeps_it_from_starting_is_said_all_at_once(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        service.configure(listeners={f"127.0.0.1:{taken}": "smtp", "192.0.2.1:25": "lmtp"})
        first = subprocess.run(service.command(), capture_output=True, timeout=PATIENCE, check=False)
    assert first.returncode == 1
    in_use, nowhere = first.stderr.decode().splitlines()
    assert in_use.startswith(f"waypost: listener smtp 127.0.0.1:{taken}: the port is in use")
    assert nowhere.startswith("waypost: listener lmtp 192.0.2.1:25: this host has no such address")


def test_a_storage_that_can_not_be_opened_ends_the_start_with_the_reason(service: Service) -> None:
    (service.folder / "data").mkdir()
    (service.folder / "data/waypost.db").write_bytes(b"this is no database" * 1000)
    with service.log.open("wb") as log:
        ended = subprocess.run(service.command(), stderr=log, timeout=PATIENCE, check=False)
    assert ended.returncode == 1
    (failed,) = service.events("service failed", 1)
    assert "not a database" in failed["reason"] and "waypost restore DIR" in failed["reason"]
    assert "died 5 times" not in failed["reason"], "trying again would not help"


def test_a_manager_that_watches_hears_that_it_is_alive(service: Service) -> None:
    service.start(WATCHDOG_USEC="200000")
    for _ in range(3):
        service.until("WATCHDOG=1")
    assert sum("WATCHDOG=1" in said for said in service.said) >= 3


def test_asked_twice_it_stops_at_once(service: Service) -> None:
    service.start()
    client = dial(service.port)
    client.docmd("MAIL FROM:<alice@example.org>")
    service.signal(signal.SIGTERM)
    service.until("STOPPING=1")
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    client.close()
    assert len(service.events("service stopping")) == 2


def test_without_uvloop_the_loop_of_the_library_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker._loop_factory() is uvloop.Loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert worker._loop_factory() is None


TRUSTED = """
[[trusted_network]]
networks = ["{network}"]
account = "devices@builder.test"
senders = ["scanner@builder.test"]
"""
DEVICES = {"127.0.0.1:0": "smtp", "127.0.0.2:0": "trusted-submission"}


def test_a_reload_with_a_network_that_everybody_could_come_from_fails_and_changes_nothing(service: Service) -> None:
    good = TRUSTED.format(network="10.255.255.254/32")
    service.configure(listeners=DEVICES, workers=1, more=good)
    service.start()
    before = service.workers()
    service.configure(
        listeners=DEVICES, workers=1, more=TRUSTED.format(network="127.0.0.1/32"), hostname="mx2.builder.test"
    )
    service.signal(signal.SIGHUP)
    assert "the last reload FAILED" in service.until("READY=1")
    (failed,) = service.events("reload failed", 1)
    assert 'trusted_network.networks = "127.0.0.1/32": this machine itself' in failed["problem"]
    assert service.state["failed_reload"]["problems"] == [failed["problem"]]
    assert service.workers() == before and service.state["generation"] == 1
    with dial(service.port) as client:
        assert client.ehlo()[1].startswith(b"mx.builder.test")
    service.configure(listeners=DEVICES, workers=1, more=good, hostname="mx2.builder.test")
    service.signal(signal.SIGHUP)
    service.until("READY=1")
    assert service.state["failed_reload"] is None and service.state["generation"] == 2


def test_a_service_lives_in_a_folder_with_a_long_name(tmp_path: Path) -> None:
    """The path of a socket may have 107 octets only (unix(7)): the bus must not depend on it."""
    folder = tmp_path / ("long" * 50) / ("name" * 50)
    folder.mkdir(parents=True)
    service = Service(folder)
    try:
        service.configure(workers=2)
        service.start()
        arguments = [sys.executable, "-m", "waypost", "account", "add", "bob@builder.test", "--password-stdin"]
        told = subprocess.run(
            [*arguments, "--config", str(service.config)], input=b"long enough 123\n", capture_output=True, check=False
        )
        assert told.returncode == 0, told.stderr
        with dial(service.port) as client:
            client.mail("alice@example.org")
            assert client.rcpt("bob@builder.test")[0] == 250
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
    finally:
        service.end()


def fork_server_of(service: Service) -> int:
    """Return the process id of the fork server: the supervisor's only child."""
    assert service.process is not None
    pid = service.process.pid
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def test_the_service_ends_with_the_reason_when_nothing_can_start_workers_any_more(service: Service) -> None:
    service.start()
    workers = service.workers().values()
    os.kill(fork_server_of(service), signal.SIGKILL)
    assert service.wait() == 1
    (failed,) = service.events("service failed", 1)
    assert "the fork server" in failed["reason"] and "start the service again" in failed["reason"]
    wait_for(lambda: not any(alive(pid) for pid in workers), "the workers end")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of others")
def test_the_fork_server_knows_no_secret_and_holds_no_descriptor_of_the_service(service: Service) -> None:
    service.start()
    pid = fork_server_of(service)
    lines = (service.folder / "tls/key.pem").read_bytes().splitlines()
    assert not _remembers(pid, lines[1])
    assert any(_remembers(worker, lines[1]) for worker in service.workers().values()), "it would be found"
    targets = [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir() if int(path.name) > 2]
    assert len(targets) == 3 and all(str(target).startswith("socket:") for target in targets)  # requests, and its own
    assert [task.name for task in Path(f"/proc/{pid}/task").iterdir()] == [str(pid)]


def _remembers(pid: int, octets: bytes) -> bool:
    """True when the octets are in the memory of a process."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds, rights, *_ = line.split()
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            if not rights.startswith("rw"):
                continue
            try:
                memory.seek(start)
                if octets in memory.read(end - start):
                    return True
            except (OSError, ValueError, OverflowError):  # a page that only the kernel reads
                continue
    return False


def test_an_upgrade_on_disk_changes_nothing_until_a_restart(service: Service, tmp_path: Path) -> None:
    """Workers that start later, after a death or by a reload, are the program that the supervisor is."""
    import waypost

    shutil.copytree(Path(waypost.__file__).parent, tmp_path / "program/waypost")
    service.start(PYTHONPATH=str(tmp_path / "program"), PYTHONDONTWRITEBYTECODE="1")
    for file in (tmp_path / "program/waypost").rglob("*.py"):
        file.write_text("raise SystemExit('another version')\n")
    for file in (tmp_path / "program/waypost").rglob("*.sql"):
        file.write_text("another version\n")
    shutil.rmtree(tmp_path / "program/waypost/__pycache__", ignore_errors=True)
    before = service.workers()
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: (now := service.workers()) and 0 in now and now[0] != before[0], "a new worker is there")
    service.configure(hostname="mx2.builder.test")
    service.signal(signal.SIGHUP)
    service.until("RELOADING=1")
    assert "FAILED" not in service.until("READY=1")
    with dial(service.port) as client:
        assert client.ehlo()[1].startswith(b"mx2.builder.test")
        assert client.docmd("MAIL FROM:<alice@example.org>")[0] == 250
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert "another version" not in service.log.read_text()
