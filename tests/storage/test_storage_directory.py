"""The directory: accounts and aliases share one name space, and what an account sends is counted for all workers."""

import asyncio

import pytest
from tests.storage.letters import CREDENTIALS, SECOND, START, Engine, Letters

from waypost.storage import (
    Alias,
    Conflict,
    Credentials,
    Directory,
    Expense,
    LimitReached,
    NotFound,
    Notice,
    Spending,
    Storage,
)

MINUTE = 60 * SECOND
BOB = "bob@builder.test"
ELSEWHERE = "x@there.test"


@pytest.fixture
def directory(storage: Storage) -> Directory:
    return storage.directory


async def test_an_account_is_found_with_all_that_was_given(engine: Engine, directory: Directory) -> None:
    made = await directory.add_account(BOB, CREDENTIALS, quota=1000, now=START)
    assert await directory.account(BOB) == made
    assert (made.address, made.credentials, made.quota) == (BOB, CREDENTIALS, 1000)
    assert (made.disabled, made.created_at, made.usage) == (False, START, 0)
    assert await directory.account("carol@builder.test") is None
    assert engine.notices == [Notice("directory", BOB)]


async def test_changes_are_seen_by_another_process_at_once(engine: Engine, directory: Directory) -> None:
    other = (await engine.open(worker=1)).storage.directory
    await directory.add_account(BOB, CREDENTIALS, quota=0, now=START)
    fresh = Credentials("$other$", b"1", 8192, b"2", b"3")
    await other.set_credentials(BOB, fresh)
    await other.set_disabled(BOB, True)
    await other.set_quota(BOB, 5)
    found = await directory.account(BOB)
    assert found is not None and (found.credentials, found.disabled, found.quota) == (fresh, True, 5)
    await directory.set_disabled(BOB, False)
    assert engine.notices == [Notice("directory", BOB)] * 5


async def test_an_address_is_an_account_or_an_alias(directory: Directory) -> None:
    await directory.add_account(BOB, CREDENTIALS, quota=0, now=START)
    await directory.set_alias(Alias("info@builder.test", (BOB,)))
    with pytest.raises(Conflict):
        await directory.add_account(BOB, CREDENTIALS, quota=0, now=START)
    with pytest.raises(Conflict):
        await directory.add_account("info@builder.test", CREDENTIALS, quota=0, now=START)
    with pytest.raises(Conflict):
        await directory.set_alias(Alias(BOB, ("carol@builder.test",)))


async def test_accounts_and_aliases_are_listed_by_address(directory: Directory) -> None:
    for name in ("carol", "bob"):
        await directory.add_account(f"{name}@builder.test", CREDENTIALS, quota=0, now=START)
    for name in ("sales@builder.test", "@builder.test"):
        await directory.set_alias(Alias(name, (BOB, "else@where.test")))
    assert [account.address for account in await directory.accounts()] == [BOB, "carol@builder.test"]
    assert await directory.aliases() == [
        Alias("@builder.test", (BOB, "else@where.test")),
        Alias("sales@builder.test", (BOB, "else@where.test")),
    ]


async def test_an_alias_is_replaced_and_removed(engine: Engine, directory: Directory) -> None:
    await directory.set_alias(Alias("info@builder.test", (BOB,)))
    await directory.set_alias(Alias("info@builder.test", ("carol@builder.test",)))
    assert await directory.alias("info@builder.test") == Alias("info@builder.test", ("carol@builder.test",))
    await directory.remove_alias("info@builder.test")
    assert await directory.alias("info@builder.test") is None
    with pytest.raises(NotFound):
        await directory.remove_alias("info@builder.test")
    assert engine.notices == [Notice("directory", "info@builder.test")] * 3


async def test_changing_an_account_that_is_not_there_is_said_so(directory: Directory) -> None:
    with pytest.raises(NotFound, match=BOB):
        await directory.set_credentials(BOB, CREDENTIALS)
    with pytest.raises(NotFound):
        await directory.set_disabled(BOB, True)
    with pytest.raises(NotFound):
        await directory.set_quota(BOB, 1)
    with pytest.raises(NotFound):
        await directory.remove_account(BOB)


async def test_a_removed_account_takes_its_mail_along(directory: Directory, letters: Letters) -> None:
    bob, carol = await letters.account(), await letters.account("carol@builder.test")
    alone = [await letters.post(mailboxes=[bob.inbox]) for _ in range(7)]
    shared = await letters.post(mailboxes=[bob.inbox, carol.inbox])
    await directory.remove_account(BOB)
    assert await directory.account(BOB) is None
    assert await letters.storage.mailboxes.all(bob.id) == []
    for trace in alone:
        with pytest.raises(NotFound):
            await letters.storage.spool.open(trace)
    await letters.storage.spool.open(shared)
    again = await letters.account()
    assert again.id != bob.id and again.usage == 0


def expense(account: str, recipients: int, limit: int = 1000) -> Expense:
    return Expense(account, recipients, limit, limit, limit, limit)


class TestSpending:
    async def test_what_an_account_sends_is_summed_by_hour_and_day(
        self, letters: Letters, directory: Directory
    ) -> None:
        async def spend(recipients: int, minutes: int) -> tuple[Spending, Spending]:
            now = START + minutes * MINUTE
            if recipients:
                await letters.post(to=[ELSEWHERE], received_at=now, expense=expense(BOB, recipients))
            return await directory.spent(BOB, now)

        assert await spend(10, 0) == (Spending(1, 10), Spending(1, 10))
        assert await spend(5, 30) == (Spending(2, 15), Spending(2, 15))
        assert await spend(1, 70) == (Spending(2, 6), Spending(3, 16))
        assert await spend(0, 24 * 60 + 10) == (Spending(0, 0), Spending(2, 6))
        assert await spend(0, 48 * 60) == (Spending(0, 0), Spending(0, 0))
        assert await spend(1, 48 * 60) == (Spending(1, 1), Spending(1, 1)), "what is old goes with what is new"
        assert await spend(2, -60) == (Spending(1, 2), Spending(1, 2)), "what a wrong clock counted ahead of us goes"

    async def test_all_workers_count_together_and_accounts_apart(
        self, engine: Engine, letters: Letters, directory: Directory
    ) -> None:
        others = Letters((await engine.open(worker=1)).storage, engine.clock, maker=1)
        for one in (letters, others):
            await one.post(to=[ELSEWHERE], expense=expense(BOB, 2))
        assert (await directory.spent(BOB, START))[0] == Spending(2, 4)
        assert (await directory.spent("carol@builder.test", START))[0] == Spending(0, 0)

    async def test_a_message_past_a_limit_is_not_stored_and_those_of_its_group_commit_are(
        self, letters: Letters, directory: Directory
    ) -> None:
        bob, carol = BOB, "carol@builder.test"
        made = [
            await letters.letter(to=[ELSEWHERE], expense=expense(account, 1, limit=2))
            for account in (bob, carol, bob, bob, carol)
        ]
        answers = await asyncio.gather(*map(letters.storage.spool.accept, made), return_exceptions=True)
        assert [type(answer) for answer in answers] == [type(None), type(None), type(None), LimitReached, type(None)]
        assert str(answers[3]) == "2 messages an hour"
        assert (await directory.spent(bob, START))[0] == (await directory.spent(carol, START))[0] == Spending(2, 2)
        with pytest.raises(NotFound):
            await letters.storage.spool.open(made[3].trace)
        assert await letters.storage.journal.of(made[3].trace) == []
        for kept in (*made[:3], made[4]):
            await letters.storage.spool.open(kept.trace)

    async def test_what_is_not_stored_costs_nothing(self, letters: Letters, directory: Directory) -> None:
        with pytest.raises(NotFound):
            await letters.post(mailboxes=[99_999], expense=expense(BOB, 1))
        assert (await directory.spent(BOB, START))[0] == Spending(0, 0)
