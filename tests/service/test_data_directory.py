"""A data directory that can't be used keeps the service from starting, at once, with what its operator can do."""

import os
import pwd
import signal
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.running import PATIENCE, Service

from waypost.storage.sqlite import DATABASE


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.end()


def stop(service: Service) -> None:
    service.signal(signal.SIGTERM)
    assert service.wait() == 0


def refused(service: Service) -> str:
    """Start a service that does not become ready; return why."""
    with pytest.raises(AssertionError):
        service.start()
    assert service.wait() == 1
    return str(service.events("service failed", 1)[-1]["reason"])


def test_a_missing_database_is_said_once_and_every_segment_stays(service: Service) -> None:
    service.start()
    with smtplib.SMTP("127.0.0.1", service.port, timeout=PATIENCE) as client:
        client.ehlo("client.example.org")
    stop(service)
    data = service.folder / "data"
    (data / "segments/000000000007.seg").write_bytes(b"precious")
    os.chown(data / "segments/000000000007.seg", data.stat().st_uid, -1)
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    words = refused(service)
    assert f"{data / DATABASE} is missing, and 1 segment of messages is there" in words
    assert "waypost restore DIR" in words and "waypost storage accept" in words
    assert (data / "segments/000000000007.seg").read_bytes() == b"precious"
    assert "died 5 times" not in words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another owner")
@pytest.mark.parametrize("name", [DATABASE, "life", "segments"])
def test_what_root_copied_there_is_named_with_its_owner_and_the_command(service: Service, name: str) -> None:
    service.start()
    stop(service)
    path = service.folder / "data" / name
    os.chown(path, 0, 0)
    path.chmod(0o700 if path.is_dir() else 0o600)
    words = refused(service)
    owner = pwd.getpwuid((service.folder / "data").stat().st_uid).pw_name
    assert f"{path} belongs to root (mode" in words
    assert f"chown -R {owner}: {service.folder / 'data'}" in words
