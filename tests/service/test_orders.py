"""Supervisor and worker understand each other, and a worker is believed nothing but a report."""

import importlib
import json
import os
import socket
import tempfile
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waypost.config.listener_protocols import ListenerProtocol
from waypost.config.settings import Listener, Settings
from waypost.service.machine.secrets import Secrets
from waypost.service.processes.orders import (
    Control,
    Orders,
    Word,
    WorkerReport,
    read_report,
    send_descriptors,
    write_orders,
)
from waypost.service.processes.preload import MODULES

ORDERS = Orders(
    generation=7,
    settings=Settings(path=Path("/etc/waypost.toml"), hostname="mx.example.org", domains=(), data=Path("/data")),
    secrets=Secrets(b"certificate", b"key" * 100_000),
    identity=None,
    listeners=(),
    json_log=True,
)


@pytest.fixture
def pair() -> tuple[socket.socket, Control]:
    ours, theirs = socket.socketpair()
    return ours, Control(theirs.detach())


def test_orders_arrive_whole(pair: tuple[socket.socket, Control]) -> None:
    supervisor, control = pair
    send_descriptors(supervisor, ORDERS)
    octets = write_orders(ORDERS)
    supervisor.setblocking(False)
    sent = supervisor.send(octets)

    def rest() -> None:
        supervisor.setblocking(True)
        supervisor.sendall(octets[sent:])

    import threading

    thread = threading.Thread(target=rest)
    thread.start()
    assert control.orders() == ORDERS
    thread.join()
    control.close()
    supervisor.close()


def test_words_arrive_one_by_one(pair: tuple[socket.socket, Control]) -> None:
    supervisor, control = pair
    control.nonblocking()
    heard: list[Word] = []
    control.hear(heard.append)
    assert heard == []
    supervisor.sendall(Word.RETIRE.value + Word.STOP.value)
    control.hear(heard.append)
    assert heard == [Word.RETIRE, Word.STOP]
    supervisor.close()
    control.close()


def test_a_dead_supervisor_is_a_stop(pair: tuple[socket.socket, Control]) -> None:
    supervisor, control = pair
    supervisor.close()
    heard: list[Word] = []
    control.hear(heard.append)
    assert heard == [Word.STOP]
    control.ready(1)  # nobody hears it, and nothing happens
    control.close()


def test_a_supervisor_that_dies_before_its_orders_is_noticed(pair: tuple[socket.socket, Control]) -> None:
    supervisor, control = pair
    send_descriptors(supervisor, ORDERS)
    supervisor.sendall(write_orders(ORDERS)[:1000])
    supervisor.close()
    with pytest.raises(EOFError):
        control.orders()
    control.close()


@pytest.mark.parametrize("listeners", [0, 1, 249, 250, 600])
def test_descriptors_arrive_with_the_orders_however_many_they_are(
    pair: tuple[socket.socket, Control], listeners: int
) -> None:
    supervisor, control = pair
    listener = Listener(ListenerProtocol.SMTP, ip_address("127.0.0.1"), 25)
    with tempfile.TemporaryFile() as door, tempfile.TemporaryFile() as memory:
        orders = replace(ORDERS, listeners=((listener, door.fileno()),) * listeners, login_memory=memory.fileno())
        send_descriptors(supervisor, orders)
        supervisor.sendall(write_orders(replace(orders, secrets=Secrets())))
        got = control.orders()
        kept = [fd for _, fd in got.listeners] + [got.login_memory]
        inodes = [os.fstat(fd).st_ino for fd in kept]
        assert inodes == [os.fstat(door.fileno()).st_ino] * listeners + [os.fstat(memory.fileno()).st_ino]
        assert not any(os.get_inheritable(fd) for fd in kept)
        assert [entry for entry, _ in got.listeners] == [listener] * listeners
    for fd in kept:
        os.close(fd)
    supervisor.close()
    control.close()


def test_a_supervisor_that_dies_before_its_descriptors_is_noticed(pair: tuple[socket.socket, Control]) -> None:
    supervisor, control = pair
    supervisor.close()
    with pytest.raises(EOFError):
        control.orders()
    control.close()


def test_reports_arrive(pair: tuple[socket.socket, Control]) -> None:
    supervisor, control = pair
    control.ready(3)
    control.failed("no\nspace")
    with supervisor.makefile("rb") as lines:
        assert read_report(lines.readline()) == WorkerReport(True, number=3)
        assert read_report(lines.readline()) == WorkerReport(False, problem="no\nspace")
    supervisor.close()
    control.close()


@given(st.one_of(st.binary(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
@example(b"[" * 100_000)
def test_what_is_no_report_is_none(line: bytes | str) -> None:
    assert read_report(line.encode() if isinstance(line, str) else line) is None


def test_whatever_is_loaded_before_root_is_given_up_exists() -> None:
    for name in MODULES:
        assert importlib.import_module(name).__name__ == name
