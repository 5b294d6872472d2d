"""A query that is cancelled at any moment leaves no socket, on each event loop (dns/exchange.py)."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop

from waypost.dns.exchange import NameServer, exchange
from waypost.dns.names import name_of
from waypost.dns.wire import Type

TURNS = 12
"""Of the loop, after which a query has certainly sent its datagram."""


def sockets() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith("socket:")}


@pytest.mark.parametrize("turns", range(TURNS))
@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_query_that_is_cancelled_leaves_no_socket(
    make_loop: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    async def cancelled(server: NameServer) -> set[str]:
        before = sockets()
        asking = asyncio.create_task(exchange(name_of("x.test"), Type.A, server, patience=60, new_id=lambda: 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return sockets() - before

    # It takes queries and never answers.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, asyncio.Runner(loop_factory=make_loop) as runner:
        silent.bind(("127.0.0.1", 0))
        server = NameServer(ip_address("127.0.0.1"), silent.getsockname()[1])
        assert runner.run(cancelled(server)) == set()
