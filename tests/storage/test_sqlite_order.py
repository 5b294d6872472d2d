"""Rows are changed in a fixed order: what would keep two engines that lock rows from waiting for each other."""

import asyncio
import json
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.storage.letters import CREDENTIALS, START, Letters, deferral, finished, leases

from waypost.journal import AttemptFailed, Event
from waypost.queue.clock_repair import pull_back
from waypost.storage import Alias, Expense, FailedRound, MailboxDelivery, Pacing
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite.commit.batch import FIXED_ORDER

_CHANGE = re.compile(r"\s*(?:UPDATE|DELETE FROM|INSERT(?: OR \w+)? INTO)\s+(\w+)")
_OF_THE_ENGINE = {"life", "unflushed", "sqlite_sequence"}
"""Tables that another engine has not."""

DAY = 86_400_000_000
PEOPLE = ("bob", "carol", "dave")


@dataclass
class Watch:
    """Records what the writer runs, transaction by transaction."""

    transactions: list[list[tuple[str, Any]]] = field(default_factory=list)

    def __call__(self, cursor: object, sql: str, bindings: Any) -> bool:
        if sql.startswith("BEGIN"):
            self.transactions.append([])
        elif self.transactions:
            self.transactions[-1].append((sql, bindings))
        return True

    def changes(self) -> Iterator[list[tuple[str, str, Any]]]:
        """Yield (table, statement, values) of each transaction, but for rows that are new."""
        for transaction in self.transactions:
            found = []
            for sql, bindings in transaction:
                match = _CHANGE.match(sql)
                new = match and sql.lstrip().startswith("INSERT INTO") and "ON CONFLICT" not in sql
                if match and not new and match[1] not in _OF_THE_ENGINE:
                    found.append((match[1], sql, bindings))
            yield found


@pytest.fixture
def watch(opened: SqliteStorage) -> Watch:
    watch = Watch()
    opened._writer._connection.exec_trace = watch
    return watch


def keys(bindings: Any) -> Iterator[list[Any]]:
    """Yield the keys of each list of rows that a statement is given."""
    for value in bindings.values() if isinstance(bindings, dict) else bindings or ():
        if isinstance(value, str) and value.startswith("["):
            rows = json.loads(value)
            yield [row[0] if isinstance(row, list) else row for row in rows]


def check(watch: Watch) -> int:
    """Look whether the order is kept; return how many transactions changed more than one table."""
    many = 0
    for changes in watch.changes():
        ranks = [FIXED_ORDER.index(table) for table, _, _ in changes]
        assert ranks == sorted(ranks), [table for table, _, _ in changes]
        many += len(set(ranks)) > 1
        for table, sql, bindings in changes:
            for found in keys(bindings):
                assert found == sorted(found), (table, sql)
    return many


async def test_every_deed_changes_rows_in_the_fixed_order(
    opened: SqliteStorage, letters: Letters, watch: Watch
) -> None:
    storage = opened.storage
    queue, mailboxes, directory = storage.queue, storage.mailboxes, storage.directory
    accounts = [await letters.account(f"{name}@here.test") for name in reversed(PEOPLE)]
    boxes = [account.inbox for account in accounts]
    sent = await mailboxes.create(accounts[0].id, "Sent")

    async def post() -> None:
        for _ in range(3):
            await letters.post(to=[f"a@{name}.test" for name in "zxy"], mailboxes=[*boxes[::-1], sent.id])

    async def settle(**more: Any) -> None:
        for lease in reversed(await leases(queue, 1)):
            due = await queue.due(lease, now=START, limit=9)
            await queue.settle([finished(entry, **more) for entry in reversed(due)])
            await queue.release([lease])

    async def round_of_one() -> None:
        held = await leases(queue, 1)
        (entry, *_) = await queue.due(held[0], now=START, limit=9)
        told = Event(entry.trace, START, AttemptFailed(recipients=()))
        await queue.fail(FailedRound(held[0], START, "dead", 5, (5,), told=lambda _: (told,)))
        await queue.renew(held[::-1], until=START + 5)
        pace = (Pacing("192.0.2.1", "hoster.test", 1, "dropped", START),)
        await queue.note_pacing(dict.fromkeys(held[::-1], pace))
        await queue.release(held[::-1], not_before=START + 5, pacing=pace)
        await queue.wake([lease.destination for lease in held[::-1]])

    async def ids() -> list[int]:
        return [entry.id for name in "zyx" for entry in await letters.due(f"{name}.test")][::-1]

    async def operator() -> None:
        await queue.hold(await ids(), now=START)
        held = list(range(200, 0, -1))
        await queue.unhold(held, now=START)
        await queue.retry(held, now=START)
        await pull_back(queue, now=START - 10**9, waits=[0], longest_lease=1, sleep=asyncio.sleep)

    async def expunge() -> None:
        for box in boxes:
            await mailboxes.set_flags(box, [3, 2, 1], frozenset({"\\Seen"}))
            await mailboxes.expunge(box, [3, 1, 2])

    deeds: list[Callable[[], Awaitable[object]]] = [
        post,
        lambda: settle(
            deliveries=tuple(MailboxDelivery(box, b"") for box in boxes), forwards=letters.entries("a@w.test")
        ),
        lambda: settle(deliveries=(MailboxDelivery(sent.id, b""),)),
        post,
        round_of_one,
        operator,
        lambda: queue.release_all(1),
        post,
        settle,
        post,
        expunge,
        lambda: directory.set_credentials("bob@here.test", CREDENTIALS),
        lambda: directory.set_alias(Alias("all@here.test", ("bob@here.test",))),
        lambda: directory.remove_alias("all@here.test"),
        lambda: letters.post(to=["a@x.test"], mailboxes=boxes, expense=Expense("bob@here.test", 2, 9, 9, 9, 9)),
        lambda: letters.post(
            to=["a@x.test"],
            mailboxes=boxes,
            expense=Expense("bob@here.test", 2, 9, 9, 9, 9),
            received_at=START + 3 * DAY,
        ),
        lambda: storage.networks.remember("bob@here.test", "192.0.2.0/24", START),
        lambda: directory.remove_account("bob@here.test"),
        lambda: queue.delete(list(range(200, 0, -1)), now=START),
        lambda: opened.maintain(now=START + 400 * 86_400_000_000, journal_age=1, smallest=0),
    ]
    for deed in deeds:
        await deed()
    assert check(watch) > 20


@pytest.mark.parametrize("seed", range(5))
async def test_what_shares_a_commit_keeps_the_order_whatever_came_first(
    opened: SqliteStorage, letters: Letters, watch: Watch, seed: int
) -> None:
    chance = random.Random(seed)
    boxes = [(await letters.account(f"{name}@here.test")).inbox for name in PEOPLE]
    for number in range(6):
        await letters.post(to=[f"a@{number % 3}.test"])
    due = [entry for number in range(3) for entry in await letters.due(f"{number}.test")]
    chance.shuffle(due)
    works: list[Any] = [
        opened.storage.queue.settle([finished(due[0], forwards=letters.entries("b@w.test", "b@v.test"))]),
        opened.storage.queue.settle([finished(due[1], deliveries=tuple(MailboxDelivery(box, b"") for box in boxes))]),
        opened.storage.queue.settle([finished(due[2], deferral=deferral(due[2], START)), finished(due[3])]),
    ]
    for _ in range(6):
        some = chance.sample(boxes, 2)
        works.append(
            letters.post(to=[f"c@{chance.randrange(9)}.test"], mailboxes=some, message_id=f"<{chance.random()}>")
        )
    chance.shuffle(works)
    watch.transactions.clear()
    await asyncio.gather(*works)
    assert check(watch)
    for box in boxes:
        uids = [row.uid for row in await opened.storage.mailboxes.messages(box)]
        assert uids == list(range(1, len(uids) + 1))


async def test_what_accounts_spent_long_ago_and_ahead_is_removed_in_the_order_of_the_keys(
    opened: SqliteStorage, letters: Letters, watch: Watch
) -> None:
    """By the keys of all accounts of one commit, the buckets of each from the oldest on."""
    now = START + 9 * DAY

    async def spend(name: str, when: int) -> None:
        expense = Expense(f"{name}@here.test", 1, 9, 9, 9, 9)
        await letters.post(to=["a@x.test"], expense=expense, received_at=when)

    for when in (now + 5 * DAY, now - 5 * DAY):  # what lies ahead was counted by a wrong clock, which was set back
        for name in "cab":
            await spend(name, when)
    spending = "SELECT account, bucket FROM spending ORDER BY account, bucket"
    kept = len(opened._reading.rows(spending))
    watch.transactions.clear()
    await asyncio.gather(*(spend(name, now) for name in "bcad"))
    changed = []
    for changes in watch.changes():
        for table, sql, values in changes:
            if table == "spending":
                accounts = (
                    [values["account"]]
                    if isinstance(values, dict)
                    else [key for found in keys(values) for key in found]
                )
                changed += [(account, sql.split()[0], "> :last" in sql) for account in accounts]
    assert kept == 3 and changed == [
        (f"{name}@here.test", *what)
        for name in "abcd"
        for what in (("DELETE", False), ("INSERT", False), ("DELETE", True))
        if name != "d" or what[0] == "INSERT"
    ]
    assert check(watch)
    assert [account for account, _ in opened._reading.rows(spending)] == [f"{name}@here.test" for name in "abcd"]
