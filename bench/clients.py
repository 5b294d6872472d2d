"""Our own load generators run in processes of their own, several at once, since one interpreter would be the limit.

Each prints `ready` when it is prepared, begins when its standard input ends, and exits with 0 when it is done. So
nobody's start-up is measured.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Clients:
    """Started processes of one module of this package, each with arguments of its own."""

    def __init__(self, module: str, arguments: Sequence[Sequence[str]]) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", f"bench.{module}", *each],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for each in arguments
        ]

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [process.pid for process in self._processes]

    def ready(self) -> None:
        """Return when all are prepared. Raises `RuntimeError` when one is not."""
        for process in self._processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError(f"a client failed: {process.args!r}")

    def go(self) -> None:
        """Let all begin; returns when they are done. Raises `RuntimeError` when one fails."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            if process.wait():
                raise RuntimeError(f"a client failed: {process.args!r}")

    def end(self) -> None:
        """End those that live still."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


@contextmanager
def prepared(module: str, arguments: Sequence[Sequence[str]]) -> Iterator[Clients]:
    """Start clients, and give them when they are ready; they end with the context."""
    clients = Clients(module, arguments)
    try:
        clients.ready()
        yield clients
    finally:
        clients.end()


def shares(whole: int, parts: int) -> list[int]:
    """Return `whole` in nearly equal parts, none of them nothing."""
    return [share for part in range(parts) if (share := whole // parts + (part < whole % parts))]


async def told_to_go() -> None:
    """In a client: say `ready`, and return when it may begin."""
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
