"""Clients that connect, say EHLO and then nothing: `bench/idle.py` runs several of these processes.

    python -m bench.idlers ADDRESS PORT --connections N --source ADDRESS [--tls]

All are connected when it is ready (see `bench/clients.py`); it ends when it may go, and fails if one was lost.
"""

import argparse
import asyncio
import resource
import sys

import uvloop

from bench.clients import told_to_go
from bench.smtp_source import Talk, anybody

_AT_ONCE = 50


async def _idle(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    context = anybody() if options.tls else None
    places = asyncio.Semaphore(_AT_ONCE)

    async def connect() -> Talk:
        async with places:
            _, talk = await loop.create_connection(Talk, options.address, options.port, local_addr=(options.source, 0))
            await talk.greeting()
            await talk.say(b"EHLO bench.idle.test")
            if context is not None:
                await talk.start_tls(context)
            return talk

    talks = await asyncio.gather(*(connect() for _ in range(options.connections)))
    await told_to_go()
    gone = sum(talk.transport is None or talk.transport.is_closing() for talk in talks)
    if gone:
        sys.exit(f"{gone} idle connections did not live")


def main() -> None:
    """Connect and idle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--source", default="127.0.0.1")
    parser.add_argument("--tls", action="store_true")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_idle(parser.parse_args()))


if __name__ == "__main__":
    main()
