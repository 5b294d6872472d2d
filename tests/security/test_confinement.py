"""A worker that was taken over reaches its data and mail servers, and nothing else of the machine."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.security.probe import ALLOWED
from tests.service.running import Service

from waypost.config.load import load
from waypost.service.processes import confinement
from waypost.service.processes.confinement import Unconfined, confine, reach_of

SCOPED = 6
"""The version of Landlock from which on all of the promises can be kept."""


def landlock() -> int:
    """The kernel's version, 0 where there is none."""
    try:
        return confinement._version()
    except Unconfined:
        return 0


confined = pytest.mark.skipif(landlock() < SCOPED, reason=f"this kernel has no Landlock of version {SCOPED}")


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Two listening services: a mail server's port, and another."""
    with socket.create_server(("127.0.0.1", 0)) as mail, socket.create_server(("127.0.0.1", 0)) as other:
        yield mail.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def service(tmp_path: Path, ports: tuple[int, int]) -> Iterator[Service]:
    """A service with one worker that becomes nobody, an outbound port, and a folder beside it that is nobody's."""
    made = Service(tmp_path)
    made.configure(workers=1, more=f"[outbound]\nport = {ports[0]}\n")
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (outside / "letter").write_text("Dear Bob")
    (outside / "letter").chmod(0o666)
    yield made
    made.end()


@confined
def test_a_worker_of_the_service_reaches_nothing_outside(
    service: Service, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python runs this module in each process; a worker of the service tries everything at the end of its life.
    hook = service.folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
            import json, sys
            from pathlib import Path

            if "serve" in sys.orig_argv:
                sys.path.append({str(Path.cwd())!r})
                import tests.security.probe as probe
                import waypost.service.processes.worker as worker

                def work(control, work=worker.work):
                    status = work(control)
                    data = Path({str(service.folder / "data")!r})
                    found = probe.attempts(data, Path({str(service.folder / "outside")!r}), {ports[0]}, {ports[1]})
                    (data / "report.json").write_text(json.dumps(found))
                    return status

                worker.work = work
            """)
    )
    monkeypatch.setenv("PYTHONPATH", str(hook))
    service.start()
    (service.folder / "data/planted").symlink_to(service.folder / "outside/letter")
    [ready] = service.events("worker ready", 1)
    assert ready["level"] == "info" and service.events("workers not confined") == []
    service.signal(signal.SIGTERM)
    service.wait()
    report = json.loads((service.folder / "data/report.json").read_text())
    allowed, forbidden = list(report)[:ALLOWED], list(report)[ALLOWED:]
    assert [name for name in allowed if not report[name]] == [], service.log.read_text()
    assert [name for name in forbidden if report[name]] == []
    assert (service.folder / "outside/letter").read_text() == "Dear Bob"


@confined
def test_modules_are_imported_and_quoted_later_too(service: Service) -> None:
    program = (
        "from pathlib import Path; from waypost.config.load import load;"
        "from waypost.service.processes.confinement import *; from waypost.service.processes.privileges import harden;"
        f"harden(); confine(reach_of(load(Path({str(service.config)!r}))));"
        "import xmlrpc.client, sqlite3; raise ValueError('quoted')"
    )
    err = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False).stderr
    assert err.splitlines()[-1] == "ValueError: quoted"


@confined
def test_without_confinement_the_same_user_could(service: Service, ports: tuple[int, int]) -> None:
    """The test above proves something only if this user can reach what it is kept from."""
    data = service.folder / "data"
    data.mkdir()
    program = (
        "import json, sys; from pathlib import Path; from tests.security.probe import attempts;"
        f"print(json.dumps(attempts(Path({str(data)!r}), Path({str(service.folder / 'outside')!r}), *{ports})))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    reached = {name for name, went in json.loads(out).items() if went}
    assert {
        "read a file of our user",
        "write a file of our user",
        "run a program",
        "connect to another service",
    } < reached


def test_a_kernel_without_landlock_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    reach = reach_of(load(service.config))
    for code, words in (
        (errno.ENOSYS, "has no Landlock"),
        (errno.EOPNOTSUPP, "switched off"),
        (errno.EPERM, "forbids"),
    ):

        def refuse(*arguments: object, code: int = code) -> int:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(confinement, "_call", refuse)
        with pytest.raises(Unconfined, match=words):
            confine(reach)
    monkeypatch.setattr(confinement, "_call", lambda *arguments: 1)
    with pytest.raises(Unconfined, match="too old"):
        confine(reach)


def test_what_a_worker_may_reach_follows_the_configuration(service: Service) -> None:
    service.configure(more='[outbound]\nport = 2525\n[[route]]\ndomains = ["*"]\nhost = "smart.test"\nport = 587\n')
    reach = reach_of(load(service.config))
    assert reach.ports == {2525, 587, 53, 9}
    assert reach.keep == (service.folder / "data",)
    assert not any(service.folder.is_relative_to(path) for path in reach.read if path.is_dir() and path != Path.cwd())
