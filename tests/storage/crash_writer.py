"""A process that writes to a storage until it is killed: `python -m tests.storage.crash_writer DATA WORKER SEED`.

It prints a line for each deed that was acknowledged: `queued`, `mailbox` or `settled`, the trace id, and the seed of
the message's octets. Housekeeping runs beside it, with tiny segments, so that a kill may land anywhere.
"""

import asyncio
import contextlib
import random
import sys
import time
from pathlib import Path

from tests.storage.letters import CREDENTIALS, Letters, finished

from waypost.storage import Conflict, Filter
from waypost.storage.sqlite import SqliteStorage, open_storage

BOB = "bob@builder.test"


def octets_of(seed: int) -> bytes:
    """Return the octets of a message, small or (one in eight) large."""
    chance = random.Random(seed)
    return chance.randbytes(chance.choice((10, 500, 3_000, 3_000, 10_000, 10_000, 20_000, 300_000)))


async def post(letters: Letters, chance: random.Random, inbox: int) -> None:
    """Write for ever: to the queue or to the mailbox, and sometimes take something out of the queue."""
    spool, queue = letters.storage.spool, letters.storage.queue
    while True:
        seed = chance.getrandbits(40)
        to_queue = chance.random() < 0.7
        message = await letters.letter(
            octets_of(seed), head=b"", to=[BOB] if to_queue else (), mailboxes=() if to_queue else (inbox,)
        )
        await spool.accept(message)
        message.body.discard()
        say("queued" if to_queue else "mailbox", message.trace, seed)
        if to_queue and chance.random() < 0.6:
            async for entry in queue.entries(Filter(trace=message.trace), now=0):
                await queue.settle([finished(entry)])
                say("settled", message.trace, seed)


def say(what: str, trace: int, seed: int) -> None:
    sys.stdout.write(f"{what} {trace} {seed}\n")
    sys.stdout.flush()


async def keep_house(opened: SqliteStorage) -> None:
    while True:
        await opened.maintain(smallest=0)
        await asyncio.sleep(0.01)


async def main(data: Path, worker: int, seed: int) -> None:
    """Write with eight tasks until killed."""

    def now() -> int:
        return time.time_ns() // 1000

    opened = await open_storage(
        data, now=now, worker=worker, publish=lambda notice: None, memory_per_message=64 << 10, segment_size=200_000
    )
    directory = opened.storage.directory
    with contextlib.suppress(Conflict):
        await directory.add_account(BOB, CREDENTIALS, quota=0, now=now())
    account = await directory.account(BOB)
    assert account is not None
    letters = Letters(opened.storage, now, worker)
    tasks = [post(letters, random.Random(seed + number), account.inbox) for number in range(8)]
    await asyncio.gather(*tasks, *([keep_house(opened)] if worker == 0 else []))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
