"""The memory of logins that workers share: one for all processes, of one size, and nothing in it to guess with."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from waypost.login.counters import Counters, Failures
from waypost.login.memory import HELD, LoginMemory
from waypost.login.verdicts import Verdicts

NOW = 1_795_500_000 * 1_000_000


@pytest.fixture
def memory() -> Iterator[LoginMemory]:
    memory = LoginMemory.create()
    yield memory
    memory.close()


def in_bucket(number: int) -> bytes:
    """Names that share a bucket."""
    return (1 + number * 8192).to_bytes(8, "big") + bytes(8)


def test_another_process_with_the_key_sees_it_at_once(memory: LoginMemory) -> None:
    code = (
        "import sys; from waypost.login.memory import LoginMemory; from waypost.login.verdicts import Verdicts\n"
        "memory = LoginMemory(int(sys.argv[1]), bytes.fromhex(sys.argv[2]))\n"
        f"verdicts = Verdicts(memory, lambda: {NOW})\n"
        "print(verdicts.recall('net', 'bob', verdicts.question('hash', False, 'password')))\n"
        "verdicts.remember('net', 'alice', verdicts.question('hash', False, 'her password'), True)\n"
    )
    verdicts = Verdicts(memory, lambda: NOW)
    verdicts.remember("net", "bob", verdicts.question("hash", False, "password"), True)
    words = [sys.executable, "-c", code, str(memory.fd), memory.key.hex()]
    done = subprocess.run(words, pass_fds=[memory.fd], check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"
    assert verdicts.recall("net", "alice", verdicts.question("hash", False, "her password")) is True


def test_nobody_makes_it_smaller_under_the_others(memory: LoginMemory) -> None:
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(memory.fd, size)


def test_a_process_that_dies_inside_holds_nobody_up(memory: LoginMemory) -> None:
    code = "import fcntl, os, sys; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(memory.fd)], pass_fds=[memory.fd], check=False)
    with memory.locked():
        memory.counters.put(in_bucket(0), b"x", lambda _: 0)
        held = memory.counters.get(in_bucket(0))
    assert held is not None and held.startswith(b"x")


def test_only_one_process_is_inside(memory: LoginMemory) -> None:
    code = (
        "import fcntl, sys\ntry: fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('taken')"
    )
    with memory.locked():
        words = [sys.executable, "-c", code, str(memory.fd)]
        done = subprocess.run(words, pass_fds=[memory.fd], check=True, capture_output=True, text=True)
    assert done.stdout == "taken\n"


def test_its_octets_hold_no_name_and_no_password(memory: LoginMemory) -> None:
    verdicts, counters = Verdicts(memory, lambda: NOW), Counters(memory)
    verdicts.remember("192.0.2.1", "bob@builder.test", verdicts.question("hash", False, "can we fix it"), True)
    verdicts.remember("192.0.2.1", "bob@builder.test", verdicts.question("hash", False, "can we not"), False)
    counters.put("network", "192.0.2.1", failures=Failures((1,)))
    octets = os.pread(memory.fd, 1 << 26, 0)
    assert any(octets)
    for word in (b"bob", b"builder", b"192", b"can we", b"hash", memory.key):
        assert word not in octets


def test_a_row_takes_the_place_of_the_one_worth_least(memory: LoginMemory) -> None:
    table = memory.counters

    def worth(held: bytes) -> int:
        return held[0]

    for number in range(8):
        table.put(in_bucket(number), bytes([number + 2]), worth)
    for number in range(8, 50):
        table.put(in_bucket(number), bytes([1]), worth)
    kept = [number for number in range(50) if table.get(in_bucket(number)) is not None]
    assert kept == [1, 2, 3, 4, 5, 6, 7, 49]
    table.remove(in_bucket(3))
    table.put(in_bucket(50), b"\1", worth)
    assert table.get(in_bucket(49)) is not None and table.get(in_bucket(3)) is None
    table.put(in_bucket(50), b"\2", worth)
    assert table.get(in_bucket(50)) == b"\2".ljust(HELD, b"\0"), "in its old place"


def test_it_is_let_go_of_with_the_process_that_holds_it() -> None:
    memory = LoginMemory.create()
    fd = memory.fd
    memory.close()
    with pytest.raises(OSError):
        fcntl.fcntl(fd, fcntl.F_GETFD)
