"""Whose password is checked next: who has not failed goes first, and nobody is kept waiting for ever."""

import asyncio

import pytest

from waypost.login.hashing import HashingBusy, HashPool
from waypost.login.throttle import Standing

GUESSER, OTHER = "192.0.2.66", "198.51.100.7"


class Line:
    """Logins in front of a pool with one thread, which one of them holds already."""

    def __init__(self, waiting: int = 256) -> None:
        self.pool = HashPool(threads=1, waiting=waiting)
        self.order: list[str] = []
        self.busy: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Line":
        self.first = self.pool.turn()
        await self.first.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.first.__aexit__(None, None, None)
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.pool.close()

    async def add(self, name: str, standing: Standing, network: str) -> asyncio.Task[None]:
        async def login() -> None:
            try:
                async with self.pool.turn(standing, network):
                    self.order.append(name)
            except HashingBusy:
                self.busy.append(name)

        self.tasks.append(asyncio.create_task(login()))
        await asyncio.sleep(0)
        return self.tasks[-1]


async def test_another_users_first_login_goes_before_thirty_connections_that_guess() -> None:
    async with Line() as line:
        for number in range(30):
            await line.add(f"guess {number}", Standing.FAILED, GUESSER)
        await line.add("first login", Standing.CLEAN, OTHER)
        await line.add("known", Standing.KNOWN, OTHER)
    assert line.order[:2] == ["known", "first login"]
    assert len(line.order) == 32


async def test_guesses_that_arrive_together_from_a_fresh_network_hold_up_nobody_else() -> None:
    async with Line() as line:
        for number in range(30):
            await line.add(f"guess {number}", Standing.CLEAN, GUESSER)
        await line.add("first login", Standing.CLEAN, OTHER)
    assert line.order.index("first login") <= 1


async def test_one_turn_in_four_is_for_who_has_waited_longest() -> None:
    async with Line() as line:
        await line.add("patient", Standing.FAILED, GUESSER)
        for number in range(30):
            await line.add(f"login {number}", Standing.KNOWN, f"198.51.100.{number}")
    assert line.order.index("patient") <= 4


async def test_a_full_queue_sends_guessers_away_first() -> None:
    async with Line(waiting=3) as line:
        for number in range(5):
            await line.add(f"guess {number}", Standing.FAILED, GUESSER)
        await line.add("owner", Standing.KNOWN, OTHER)
    assert line.busy == ["guess 3", "guess 4", "guess 2"]
    assert line.order[0] == "owner"


async def test_a_login_that_is_given_up_leaves_no_turn_behind() -> None:
    async with Line() as line:
        waits = await line.add("waits", Standing.CLEAN, GUESSER)
        given = await line.add("given", Standing.CLEAN, OTHER)
        waits.cancel()
        await asyncio.sleep(0)
        await line.first.__aexit__(None, None, None)  # "given" has the turn now
        given.cancel()
        await asyncio.gather(waits, given, return_exceptions=True)
        line.first = line.pool.turn()
        async with asyncio.timeout(10):
            await line.first.__aenter__()
    with pytest.raises(HashingBusy):
        await line.pool.turn().__aenter__()
