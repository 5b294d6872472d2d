"""No more memory: what one session can't have takes nobody else's mail, and a worker that is lost is replaced."""

import asyncio
import contextlib
import os
import poplib
import shutil
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.faults.callers import Caller, any_certificate
from tests.faults.conftest import OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import ALICE, BOB, PASSWORD, route, settings_for
from tests.service.running import PATIENCE, Service, wait_for
from tests.transport.mail_server import MailServer

from waypost.intake.content import ArrivingContent
from waypost.queue.outcomes import outcome_of
from waypost.service.machine.secrets import Secrets
from waypost.service.processes.orders import Control, Orders
from waypost.service.processes.worker import Worker
from waypost.storage import StorageError
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.octets import Octets
from waypost.storage.sqlite.commit.writer import Writer

CAROL = "carol@there.test"


class Scarce:
    """Stands in for a function: out of memory `times` times, then as before."""

    def __init__(self, real: Callable[..., Any], times: int) -> None:
        self.real = real
        self.left = times

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        return lambda *arguments, **named: self(instance, *arguments, **named)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.left:
            self.left -= 1
            raise MemoryError
        return self.real(*arguments, **named)


@pytest.mark.parametrize(
    ("where", "name"), [(ArrivingContent, "write"), (Octets, "write"), (Batch, "message"), (Batch, "flush")], ids=str
)
async def test_a_session_without_memory_is_told_to_come_back_and_the_others_go_on(
    office: OpenOffice, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, where: type, name: str
) -> None:
    house = await office(dispatch=False)
    unlucky, other = [await Caller.smtp(house.port("smtp")) for _ in range(2)]
    monkeypatch.setattr(where, name, Scarce(getattr(where, name), 1))
    assert (await ledger.post(unlucky, "eve@else.test", BOB)).startswith("451 4.3.0")
    for caller in (other, unlucky):
        assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")
    found = await ledger.audit(house)
    assert found.mailboxes.total() == 2


@pytest.mark.parametrize("fate", ["250 2.0.0 taken", "550 5.7.1 no"])
async def test_what_became_of_a_relay_waits_for_memory(
    office: OpenOffice, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    async with MailServer("PIPELINING", CONTENT=fate) as there:
        house = await office(routes=(route("there.test", there.port),), dispatch=False)
        caller = await Caller.submission(house.port("submissions"), ALICE)
        assert (await ledger.post(caller, ALICE, CAROL)).startswith("250")
        monkeypatch.setattr("waypost.queue.settler.outcome_of", Scarce(outcome_of, 2))
        monkeypatch.setattr(Batch, "delete_entry", Scarce(Batch.delete_entry, 2))
        house.dispatch()
        await house.drained()
        await ledger.audit(house, there)
    assert sum(line.startswith("MAIL") for visit in there.visits for line in visit.lines) == 1, "tried once"


async def test_a_storage_whose_writer_is_lost_says_so_and_loses_nothing(
    office: OpenOffice, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await office(dispatch=False)
    caller = await Caller.smtp(house.port("smtp"))
    assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")
    monkeypatch.setattr(Writer, "_take", Scarce(Writer._take, 1))
    failed = asyncio.create_task(house.assembly.storage.failed())
    assert (await ledger.post(caller, "eve@else.test", BOB))[:3] in ("250", "451")
    await asyncio.wait_for(failed, 20)
    assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("451 4.3.0")
    caller.hang_up()
    await house.close()
    await house.open(dispatch=False)
    await ledger.audit(house)


async def test_a_worker_whose_writer_is_lost_ends_so_that_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    settings = settings_for(tmp_path, tls=None)
    settings.data.mkdir()
    orders = Orders(1, settings, Secrets(login=bytes(32)), None, (), json_log=True)
    monkeypatch.setattr(Writer, "_take", Scarce(Writer._take, 1))
    control, allowed = Control(theirs.detach()), os.sched_getaffinity(0)
    try:
        with ours, pytest.raises(StorageError, match="the storage's writer ended"):
            await asyncio.wait_for(Worker(orders, control, 0).run(), 20)
    finally:
        os.sched_setaffinity(0, allowed)  # a worker keeps the thread that it runs in to one processor
        control.close()


async def test_without_a_thread_nothing_is_lost_and_nothing_stays_open(
    office: OpenOffice, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await office(dispatch=False)
    sender = await Caller.smtp(house.port("smtp"))
    late = await Caller.dial(house.port("pop3s"), tls=any_certificate())
    await late.line()

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    go = threading.Event()
    busy = [asyncio.create_task(asyncio.to_thread(go.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        assert (await ledger.post(sender, "eve@else.test", BOB, size=500_000)).startswith("451 4.3.0")
        await late.ask(f"USER {BOB}")
        assert (await late.ask(f"PASS {PASSWORD}")).startswith("-ERR [SYS/TEMP]")
    go.set()
    await asyncio.gather(*busy)
    for size in (0, 500_000):
        assert (await ledger.post(sender, "eve@else.test", BOB, size=size)).startswith("250")
    assert (await Caller.pop3(house.port("pop3s"), BOB)).writer
    await ledger.audit(house)
    assert not list((house.settings.data / "segments").glob("arriving-*"))
    assert not [target for target in open_files() if "arriving-" in target]


def open_files() -> list[str]:
    """What this process has open."""
    targets = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            targets.append(str(path.readlink()))
    return targets


# -- a real worker under a real limit --------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    if shutil.which("prlimit") is None:
        pytest.skip("there is no prlimit(1) to limit a process that runs")
    made = Service(tmp_path)
    made.configure(
        listeners={"127.0.0.1:0": "smtp", "127.0.0.2:0": "pop3s"},
        workers=1,
        more="[limits]\nconnections_per_network = 1000\n",
    )
    subprocess.run(
        [sys.executable, "-m", "waypost", "account", "add", "bob@builder.test", "--config", made.config]
        + ["--password-stdin"],
        input=PASSWORD.encode(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    made.start()
    yield made
    made.end()


def limit(service: Service, extra: int | None) -> None:
    """Let the worker have so many octets more than it has; None: as many as there are."""
    pid = service.workers()[0]
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    size = int(status["VmSize"].split()[0]) * 1024
    most = "unlimited" if extra is None else size + extra
    owner = (service.folder / "data").stat()
    # Done by the worker's own user: root in a container may not do it for others.
    as_worker = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(["prlimit", f"--pid={pid}", f"--as={most}:unlimited"], check=True, **as_worker)  # type: ignore[call-overload]


def send(service: Service, number: int, size: int) -> str | None:
    """Send a message with a number; return the answer, None when there was none."""
    content = f"Subject: {number}\r\n\r\n".encode() + b"How do you do?\r\n" * (1 + size // 16)
    try:
        with smtplib.SMTP("127.0.0.1", service.ports()[0], "client.example.org", timeout=PATIENCE) as client:
            client.sendmail("eve@example.org", ["bob@builder.test"], content)
            return "250"
    except smtplib.SMTPResponseException as error:
        return str(error.smtp_code)
    except (OSError, smtplib.SMTPException):
        return None


def mailbox(service: Service) -> list[int] | str:
    """Return the numbers of the messages in Bob's mailbox, or the server's words."""
    client = poplib.POP3_SSL("127.0.0.2", service.ports()[1], timeout=PATIENCE, context=any_certificate())
    try:
        client.user("bob@builder.test")
        client.pass_(PASSWORD)
        headers = [client.top(number, 0)[1] for number in range(1, client.stat()[0] + 1)]
        client.quit()
    except poplib.error_proto as error:
        return str(error)
    finally:
        client.close()
    return [int(line.split()[1]) for lines in headers for line in lines if line.startswith(b"Subject: ")]


def test_a_login_that_there_is_no_memory_for_takes_nobody_elses_mail(service: Service) -> None:
    """A password check needs 64 MiB."""
    before = service.workers()
    limit(service, 32 << 20)
    answer = mailbox(service)
    assert isinstance(answer, str) and "-ERR [SYS/TEMP]" in answer
    assert send(service, 1, 1000) == "250"
    limit(service, None)
    assert mailbox(service) == [1]
    assert service.workers() == before
    assert any("no memory" in event["reason"] for event in service.events("login refused"))


def test_whatever_a_worker_without_memory_acknowledged_is_there_and_if_it_dies_it_is_replaced(service: Service) -> None:
    assert send(service, 0, 1000) == "250"
    limit(service, 1 << 20)
    with ThreadPoolExecutor(24) as crowd:
        answers = list(crowd.map(lambda number: send(service, number, 900_000), range(1, 49)))
    assert None in answers or "451" in answers, "the limit was felt"

    def well() -> bool:
        limit(service, None)
        return send(service, 100, 1000) == "250"

    wait_for(well, "mail is taken again")
    acknowledged = [0, *(number for number, answer in enumerate(answers, 1) if answer == "250")]
    found = wait_for(lambda: isinstance(found := mailbox(service), list) and found, "the mailbox can be read")
    assert set(acknowledged) <= set(found)
    assert service.process is not None and service.process.poll() is None
