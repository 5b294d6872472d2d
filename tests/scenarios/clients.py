"""Driving programs that nobody here wrote, and waiting for what they do."""

import asyncio
import poplib
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

from waypost.lab.host import Host

T = TypeVar("T")


async def eventually(ask: Callable[[], Awaitable[T] | T], *, seconds: float = 30) -> T:
    """Ask until the answer is true; for things that other programs do and announce nowhere."""
    async with asyncio.timeout(seconds):
        while True:
            answer = ask()
            value = await answer if isinstance(answer, Awaitable) else answer
            if value:
                return value
            await asyncio.sleep(0.05)


async def run(*command: str, stdin: str | bytes = "", check: bool = True) -> str:
    """Run a client program; return what it printed, both streams. Fails with its words when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    data = stdin.encode() if isinstance(stdin, str) else stdin
    out, _ = await asyncio.wait_for(process.communicate(data), 60)
    words = out.decode(errors="replace")
    assert not check or process.returncode == 0, f"{command}: {process.returncode}\n{words}"
    return words


def trusting(host: Host) -> ssl.SSLContext:
    """Return a TLS context that trusts the host's own certificate (which names it, not its address)."""
    context = ssl.create_default_context(cafile=str(host.certificate))
    context.check_hostname = False
    return context


def poll(host: Host, person: str, password: str, *, delete: bool = False) -> list[bytes]:
    """Return all messages of a person, read by POP3 over TLS with `poplib`."""
    box = poplib.POP3_SSL(host.address, host.ports.pop3s, timeout=20, context=trusting(host))
    try:
        box.user(person)
        box.pass_(password)
        count, _ = box.stat()
        messages = [b"\r\n".join(box.retr(number)[1]) + b"\r\n" for number in range(1, count + 1)]
        if delete:
            for number in range(1, count + 1):
                box.dele(number)
        return messages
    finally:
        box.quit()
