"""The load: clients that send and read all at once, and that send again what was not acknowledged."""

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.torture.letters import Letter
from tests.torture.moments import Moment, Moments
from tests.torture.promises import Maildrop, Promises
from tests.torture.wire import LOST, Door, Pop3Client, Refused, SmtpClient

_SIZES = (200, 1_000, 1_000, 3_000, 3_000, 10_000, 10_000, 60_000, 150_000)
_PAUSE = 0.05  # seconds before a client comes back


@dataclass(frozen=True, slots=True)
class Mailer:
    """One client that sends: where, as whom, and what it may write to whom, with weights."""

    host: str
    door: Door
    sender: str
    to: tuple[tuple[int, tuple[str, ...]], ...]
    password: str | None = None  # None: it is a mail server, and does not log in


@dataclass
class Load:
    """All clients together. `acknowledged` counts what hosts answered for, so that others can wait for more."""

    seed: int
    promises: Promises
    mailers: list[Mailer]
    maildrops: list[tuple[Maildrop, Door, str]]
    moments: Moments
    acknowledged: int = 0
    deletions: int = 0
    doubts: int = 0
    lost: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._news = asyncio.Condition()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        for place, mailer in enumerate(self.mailers):
            chance = random.Random(f"{self.seed} mailer {place}")
            self._tasks.append(asyncio.create_task(self._send_for_ever(mailer, chance)))
        for place, (maildrop, door, password) in enumerate(self.maildrops):
            chance = random.Random(f"{self.seed} reader {place}")
            self._tasks.append(asyncio.create_task(self._read_for_ever(maildrop, door, password, chance)))

    async def more(self, count: int) -> None:
        """Return when so many more messages were acknowledged. Raises what ended a client, if one ended."""
        wanted = self.acknowledged + count
        async with self._news:
            await self._news.wait_for(lambda: self.acknowledged >= wanted or any(task.done() for task in self._tasks))
        for task in self._tasks:
            if task.done():
                task.result()

    async def finish(self) -> None:
        """Send nothing new; return when everything that was sent is acknowledged. Raises what ended a client."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def cancel(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Sending.

    async def _send_for_ever(self, mailer: Mailer, chance: random.Random) -> None:
        client: SmtpClient | None = None
        while not self._stopping:
            letter = self._compose(mailer, chance)
            self.promises.letters[letter.number] = letter
            client = await self._insist(mailer, letter, client, chance)
            if chance.random() < 0.2:
                await self._leave(client, polite=chance.random() < 0.5)
                client = None
            await asyncio.sleep(chance.random() ** 2 * 0.05)
        if client is not None:
            await self._leave(client, polite=True)

    def _compose(self, mailer: Mailer, chance: random.Random) -> Letter:
        (to,) = chance.choices([to for _, to in mailer.to], weights=[weight for weight, _ in mailer.to])
        return Letter(next(self._numbers), self.seed, mailer.sender, to, chance.choice(_SIZES))

    async def _insist(
        self, mailer: Mailer, letter: Letter, client: SmtpClient | None, chance: random.Random
    ) -> SmtpClient:
        """Send a message until it is acknowledged; return the connection."""
        pipelined = chance.random() < 0.5
        sent = partial(self.moments.happen, Moment.MESSAGE_SENT, mailer.host)
        while True:
            try:
                if client is None:
                    user = None if mailer.password is None else mailer.sender
                    client = await SmtpClient.connect(mailer.door, user, mailer.password or "")
                trace = await client.send(letter, pipelined=pipelined, sent=sent)
            except LOST:
                self.lost += 1
                if client is not None and client.unanswered:
                    self.promises.unanswered[letter.number] += 1
            except Refused as refusal:
                if not refusal.for_now:
                    raise
                self.refused[str(refusal)] = self.refused.get(str(refusal), 0) + 1
            else:
                self.promises.acknowledge(letter, mailer.host, trace)
                async with self._news:
                    self.acknowledged += 1
                    self._news.notify_all()
                return client
            if client is not None:
                client.abort()
                client = None
            await asyncio.sleep(_PAUSE)

    @staticmethod
    async def _leave(client: SmtpClient, *, polite: bool) -> None:
        if not polite:
            client.abort()
            return
        try:
            await client.quit()
        except (*LOST, Refused):
            client.abort()

    # Reading.

    async def _read_for_ever(self, maildrop: Maildrop, door: Door, password: str, chance: random.Random) -> None:
        while not self._stopping:
            try:
                await self._session(maildrop, door, password, lambda: chance.random() < 0.7)
            except (*LOST, Refused):
                self.lost += 1
                await asyncio.sleep(_PAUSE)
            await asyncio.sleep(0.1 + chance.random() * 0.2)

    async def _session(self, maildrop: Maildrop, door: Door, password: str, deletes: Callable[[], bool]) -> None:
        sent = partial(self.moments.happen, Moment.QUIT_SENT, maildrop.user.partition("@")[2])
        client = await Pop3Client.connect(door, maildrop.user, password)
        try:
            uids = maildrop.look(await client.unique_ids())
            marked = []
            for number, uid in uids.items():
                maildrop.keep(uid, await client.retrieve(number))
                if uid in maildrop.copies and deletes():
                    marked.append(number)
            await client.delete(marked)
            removed = {uids[number] for number in marked}
            maildrop.doubtful = removed
            self.doubts += bool(removed)
            await client.quit(sent=sent if removed else lambda: None)
            maildrop.deleted |= removed
            maildrop.doubtful = set()
            self.doubts -= bool(removed)
            self.deletions += len(removed)
        except BaseException:
            client.abort()
            raise

    async def read_all(self) -> None:
        """Read every maildrop to its end, deleting nothing. Raises what is in `LOST`, or `Refused`."""
        for maildrop, door, password in self.maildrops:
            await self._session(maildrop, door, password, lambda: False)
