"""What is committed in the name of an account fails once it was closed or has another password, and only that."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from msgspec import structs
from tests.storage.letters import Letters

from waypost.storage import Account, AccountChanged, Credentials, Directory

OTHER = Credentials("another", b"", 1, b"", b"")
Deed = Callable[[Directory, Account], Awaitable[object]]


@dataclass(frozen=True)
class Change:
    """A change of an account, and whether what its sessions commit fails after it."""

    name: str
    deed: Deed
    ends: bool


async def _again(directory: Directory, account: Account) -> None:
    await directory.remove_account(account.address)
    await directory.add_account(account.address, account.credentials, quota=0, now=account.created_at)


async def _there_and_back(directory: Directory, account: Account) -> None:
    await directory.set_disabled(account.address, True)
    await directory.set_disabled(account.address, False)


CHANGES = [
    Change("disabled", lambda directory, account: directory.set_disabled(account.address, True), True),
    Change("disabled and enabled", _there_and_back, True),
    Change("another password", lambda directory, account: directory.set_credentials(account.address, OTHER), True),
    Change("removed", lambda directory, account: directory.remove_account(account.address), True),
    Change("removed and made anew", _again, True),
    Change("enabled", lambda directory, account: directory.set_disabled(account.address, False), False),
    Change("another quota", lambda directory, account: directory.set_quota(account.address, 1 << 20), False),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_a_commit_names_the_account_as_it_was_at_the_login(letters: Letters, change: Change) -> None:
    bob, alice = await letters.account(), await letters.account("alice@builder.test")
    before = await letters.letter(mailboxes=[bob.inbox])
    await letters.storage.spool.accept(structs.replace(before, login=alice.as_it_is))
    await change.deed(letters.storage.directory, alice)
    now = await letters.storage.directory.account(alice.address)
    assert alice.may_go_on(now) is not change.ends
    message = structs.replace(await letters.letter(mailboxes=[bob.inbox]), login=alice.as_it_is)
    others = [await letters.letter(mailboxes=[bob.inbox]) for _ in range(5)]
    accepted = await asyncio.gather(  # in one group, whose other messages are stored
        *(letters.storage.spool.accept(one) for one in (*others[:2], message, *others[2:])), return_exceptions=True
    )
    assert [type(one) for one in accepted] == [type(None)] * 2 + [AccountChanged if change.ends else type(None)] + [
        type(None)
    ] * 3
    stored = [row.trace for row in await letters.storage.mailboxes.messages(bob.inbox)]
    assert stored.count(before.trace) == 1 and (message.trace in stored) is not change.ends
    assert len(stored) == 6 + (not change.ends)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_a_deletion_names_the_account_too(letters: Letters, change: Change) -> None:
    alice = await letters.account("alice@builder.test")
    bob = await letters.account()  # stands for a mailbox that stays when its reader's account goes
    for _ in range(3):
        await letters.post(b"x", mailboxes=[bob.inbox])
    await change.deed(letters.storage.directory, alice)
    if change.ends:
        with pytest.raises(AccountChanged):
            await letters.storage.mailboxes.expunge(bob.inbox, [1, 2], alice.as_it_is)
        assert len(await letters.storage.mailboxes.messages(bob.inbox)) == 3
    else:
        assert await letters.storage.mailboxes.expunge(bob.inbox, [1, 2], alice.as_it_is) == 2


async def test_every_password_and_every_closing_has_a_version_of_its_own(letters: Letters) -> None:
    directory, seen = letters.storage.directory, set()
    alice = await letters.account("alice@builder.test")
    for disabled in (False, True, True, False, False):
        await directory.set_disabled(alice.address, disabled)
        found = await directory.account(alice.address)
        assert found is not None
        seen.add((found.version, found.disabled))
    await directory.set_credentials(alice.address, OTHER)
    found = await directory.find(alice.address)
    assert isinstance(found, Account)
    seen.add((found.version, found.disabled))
    assert seen == {(1, False), (2, True), (3, False), (4, False)}
