"""Workers are forked from a process that holds nothing of the supervisor's, and however one ends, it is told.

Each test is a program of its own: a process with the threads of a test run must not fork.
"""

import json
import subprocess
import sys
import textwrap
from typing import Any

_FRAME = """
    import asyncio, json, os, signal, socket, sys, tempfile, threading

    from waypost.service.processes.fork_server import ForkServer

    async def forked(forks):
        ours, theirs = socket.socketpair()
        with theirs:
            worker = await forks.fork(theirs)
        ours.setblocking(False)
        return worker, ours

    async def read(sock):
        octets = b""
        while part := await asyncio.get_running_loop().sock_recv(sock, 65536):
            octets += part
        return octets
"""


def run(program: str, **environment: str) -> Any:
    """Run a program behind the frame; return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_FRAME) + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment or None,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_worker_inherits_nothing_of_the_supervisors() -> None:
    found = run(
        """
        inherited = tempfile.TemporaryFile()  # as a socket of a service manager
        os.set_inheritable(inherited.fileno(), True)
        signal.signal(signal.SIGTERM, lambda *_: None)

        def work(control):
            with socket.socket(fileno=control) as sock:
                named = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                         if os.path.exists(f"/proc/self/fd/{fd}")}
                asyncio.run(asyncio.sleep(0))
                found = {
                    "open": sorted(name for fd, name in named.items() if int(fd) > 2 and int(fd) != control),
                    "stdin": named["0"],
                    "threads": len(os.listdir("/proc/self/task")),
                    "manager": sorted(name for name in os.environ if name in ("NOTIFY_SOCKET", "WATCHDOG_USEC")),
                    "kept": os.environ["KEPT"],
                    "sigterm": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
                    "sigchld": signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL,
                    "wakeup": signal.set_wakeup_fd(-1),
                    "here": "" in sys.path or os.getcwd() in sys.path,
                    "secret": "secret" in globals(),
                }
                sock.sendall(json.dumps(found).encode())
            return 0

        forks = ForkServer.start(work)
        secret = b"of the supervisor alone"
        async def main():
            opened = tempfile.TemporaryFile()
            threading.Thread(target=stop.wait, daemon=True).start()
            forks.attach(lost=lambda: None)
            worker, sock = await forked(forks)
            print((await read(sock)).decode())
            assert await worker.ended == 0
        stop = threading.Event()
        asyncio.run(main())
        forks.close()
        """,
        NOTIFY_SOCKET="@manager",
        WATCHDOG_USEC="1",
        KEPT="yes",
    )
    assert found == {
        "open": [],
        "stdin": "/dev/null",
        "threads": 1,
        "manager": [],
        "kept": "yes",
        "sigterm": True,
        "sigchld": True,
        "wakeup": -1,
        "here": False,
        "secret": False,
    }


def test_two_workers_draw_different_random_numbers() -> None:
    first, second = run(
        """
        import random, ssl, uuid

        def work(control):
            with socket.socket(fileno=control) as sock:
                drawn = [random.random(), ssl.RAND_bytes(8).hex(), os.urandom(8).hex(), str(uuid.uuid4())]
                sock.sendall(json.dumps(drawn).encode())
            return 0

        random.random(), ssl.RAND_bytes(8)
        forks = ForkServer.start(work)
        async def main():
            forks.attach(lost=lambda: None)
            print(json.dumps([json.loads(await read((await forked(forks))[1])) for _ in range(2)]))
        asyncio.run(main())
        forks.close()
        """
    )
    assert not set(first) & set(second)


def test_however_a_worker_ends_the_supervisor_is_told() -> None:
    found = run(
        """
        def work(control):
            with socket.socket(fileno=control) as sock:
                word = sock.recv(1)
                if word == b"7":
                    return 7
                if word == b"!":
                    sys.stderr = open(os.devnull, "w")
                    raise KeyError("a fault")
                sock.recv(1)
            return 0

        forks = ForkServer.start(work)
        async def main():
            forks.attach(lost=lambda: None)
            workers = [await forked(forks) for _ in range(4)]
            for (_, sock), word in zip(workers, (b"7", b"!", b"k", b""), strict=True):
                sock.send(word) if word else sock.close()
            forks.kill(workers[2][0].pid)
            ends = [os.waitstatus_to_exitcode(await worker.ended) for worker, _ in workers]
            for worker, _ in workers:
                forks.kill(worker.pid)  # nobody minds
            alive = [worker.pid for worker, _ in workers if os.path.exists(f"/proc/{worker.pid}")]
            print(json.dumps([ends, alive]))
        asyncio.run(main())
        forks.close()
        """
    )
    assert found == [[7, 1, -9, 0], []]


def test_a_fork_server_that_is_killed_is_noticed_and_its_workers_can_still_be_ended() -> None:
    found = run(
        """
        def work(control):
            with socket.socket(fileno=control) as sock:
                sock.recv(1)
            return 0

        forks = ForkServer.start(work)
        async def main():
            lost = asyncio.Event()
            forks.attach(lost=lost.set)
            worker, sock = await forked(forks)
            os.kill(forks.pid, signal.SIGKILL)
            await lost.wait()
            try:
                await forked(forks)
                refused = ""
            except OSError as error:
                refused = error.strerror
            alive = os.path.exists(f"/proc/{worker.pid}")
            forks.kill(worker.pid)
            closed = await read(sock)
            print(json.dumps([forks.lost, await worker.ended, refused, alive, closed.decode()]))
        asyncio.run(main())
        forks.close()
        """
    )
    assert found == [True, None, "the fork server has ended", True, ""]


def test_the_fork_server_ends_with_the_supervisor_whatever_the_group_is_sent_before() -> None:
    found = run(
        """
        supervisor = os.fork()
        if supervisor == 0:
            os.setsid()
            forks = ForkServer.start(lambda control: 0)
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                os.kill(forks.pid, number)
            async def main():
                forks.attach(lost=lambda: None)
                worker, _ = await forked(forks)
                assert await worker.ended == 0
            asyncio.run(main())
            sys.stderr.write(str(forks.pid))
            print(json.dumps(forks.pid), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(supervisor, 0)
        """
    )
    assert isinstance(found, int)
    _gone(found)


def _gone(pid: int) -> None:
    """Return when a process has ended, which init or this container's first process may take note of late."""
    from tests.service.running import alive, wait_for

    wait_for(lambda: not alive(pid), "the fork server ends")


def test_a_process_with_another_thread_does_not_fork() -> None:
    assert (
        run(
            """
        stop = threading.Event()
        threading.Thread(target=stop.wait, daemon=True).start()
        try:
            ForkServer.start(lambda control: 0)
        except RuntimeError as error:
            print(json.dumps(str(error)))
        """
        )
        == "a process with 2 threads must not fork"
    )
