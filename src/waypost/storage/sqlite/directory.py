"""Accounts and aliases of the embedded engine. Look-ups cost some microseconds, so nothing is cached."""

from typing import Any

import apsw

from waypost.message.trace import Micros
from waypost.storage import notices
from waypost.storage.directory import Account, Alias, Credentials, Spending
from waypost.storage.errors import Conflict, NotFound
from waypost.storage.sqlite.beside import Beside
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.mailboxes import AT_ONCE, new_mailbox, remove_messages
from waypost.storage.sqlite.networks import forget_networks
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import text, texts_from
from waypost.storage.sqlite.spending import SPENT, windows

_ACCOUNT = """
SELECT id, address, argon2, salt, iterations, stored_key, server_key, quota, disabled, created_at,
       (SELECT mailbox.id FROM mailbox WHERE mailbox.id = inbox), usage, version
FROM account """
_FIND = """
SELECT NULL, id, address, argon2, salt, iterations, stored_key, server_key, quota, disabled, created_at,
       (SELECT mailbox.id FROM mailbox WHERE mailbox.id = inbox), usage, version
FROM account WHERE address = ?1
UNION ALL
SELECT targets, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM alias WHERE address = ?1"""
_FORGET_EXPUNGED = """
DELETE FROM expunged WHERE (mailbox, modseq, uid) IN
    (SELECT mailbox, modseq, uid FROM expunged WHERE mailbox = ? LIMIT ?) RETURNING uid"""
_HAS_MAIL = """
SELECT 1 FROM mailbox CROSS JOIN mailbox_message ON mailbox_message.mailbox = mailbox.id WHERE account = ? LIMIT 1"""


def _account(row: tuple[Any, ...]) -> Account:
    number, address, *credentials, quota, disabled, created_at, inbox, usage, version = row
    return Account(
        number, address, Credentials(*credentials), quota, bool(disabled), created_at, inbox or 0, usage, version
    )


class SqliteDirectory:
    """Looks up and changes accounts and aliases."""

    def __init__(self, writer: Writer, reading: Reading, beside: Beside) -> None:
        self._writer = writer
        self._reading = reading
        self._beside = beside

    async def find(self, address: str) -> Account | Alias | None:  # hot: bench/accept
        """Return the account or alias with this address key; None when there is neither."""
        row = self._reading.row(_FIND, (address,))
        if row is None:
            return None
        return _account(row[1:]) if row[0] is None else _alias(address, row[0])

    async def account(self, address: str) -> Account | None:
        """Return the account with this address key; None if there is none."""
        row = self._reading.row(_ACCOUNT + "WHERE address = ?", (address,))
        return None if row is None else _account(row)

    async def alias(self, address: str) -> Alias | None:
        """Return the alias with this address key; None if there is none."""
        targets = self._reading.value("SELECT targets FROM alias WHERE address = ?", (address,))
        return None if targets is None else _alias(address, targets)

    async def accounts(self) -> list[Account]:
        """Return all accounts, by address."""
        return await self._beside.run(
            lambda reading: [_account(row) for row in reading.rows(_ACCOUNT + "ORDER BY address")]
        )

    async def aliases(self) -> list[Alias]:
        """Return all aliases, by address."""

        def aliases(reading: Reading) -> list[Alias]:
            return [_alias(*row) for row in reading.rows("SELECT address, targets FROM alias ORDER BY address")]

        return await self._beside.run(aliases)

    async def add_account(self, address: str, credentials: Credentials, *, quota: int, now: Micros) -> Account:
        """Make an account with its INBOX. Raises `Conflict`."""

        def add(connection: apsw.Connection) -> None:
            if connection.execute("SELECT 1 FROM alias WHERE address = ?", (address,)).get is not None:
                raise Conflict(f"{address} is an alias")
            try:
                account = connection.execute(
                    "INSERT INTO account (address, argon2, salt, iterations, stored_key, server_key, quota, "
                    "created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                    (address, *_credentials(credentials), quota, now),
                ).get
            except apsw.ConstraintError:
                raise Conflict(f"there is an account {address} already") from None
            inbox = new_mailbox(connection, account, "INBOX", now)
            connection.execute("UPDATE account SET inbox = ? WHERE id = ?", (inbox, account))

        await self._writer.call(add, lambda _: notices.of_address(address))
        account = await self.account(address)
        if account is None:
            raise NotFound(f"{address} was removed at once")
        return account

    async def set_credentials(self, address: str, credentials: Credentials) -> None:
        """Change the password. Raises `NotFound`."""
        await self._change(
            address,
            "UPDATE account SET argon2 = ?, salt = ?, iterations = ?, stored_key = ?, server_key = ?, "
            "version = version + 1",
            _credentials(credentials),
        )

    async def set_disabled(self, address: str, disabled: bool) -> None:
        """Disable or enable an account. Raises `NotFound`."""
        await self._change(
            address, "UPDATE account SET version = version + (disabled <> ?), disabled = ?", (disabled, disabled)
        )

    async def set_quota(self, address: str, quota: int) -> None:
        """Change the quota. Raises `NotFound`."""
        await self._change(address, "UPDATE account SET quota = ?", (quota,))

    async def _change(self, address: str, sql: str, values: tuple[Any, ...]) -> None:
        def change(connection: apsw.Connection) -> None:
            connection.execute(sql + " WHERE address = ?", (*values, address))
            if not connection.changes():
                raise NotFound(f"there is no account {address}")

        await self._writer.call(change, lambda _: notices.of_address(address))

    async def remove_account(self, address: str) -> None:
        """Remove an account with its mailboxes and mail. Raises `NotFound`."""

        account = await self.account(address)
        if account is None:
            raise NotFound(f"there is no account {address}")

        def remove(connection: apsw.Connection) -> bool:
            """Remove an account whose mailboxes are empty; False when something came since they were emptied."""
            if connection.execute("SELECT 1 FROM account WHERE id = ?", (account.id,)).get is None:
                raise NotFound(f"there is no account {address}")
            if connection.execute(_HAS_MAIL, (account.id,)).get is not None:
                return False
            boxes = connection.execute("DELETE FROM mailbox WHERE account = ? RETURNING id", (account.id,)).fetchall()
            for (box,) in sorted(boxes):
                connection.execute("DELETE FROM expunged WHERE mailbox = ?", (box,)).fetchall()
            connection.execute("DELETE FROM account WHERE id = ?", (account.id,)).fetchall()
            connection.execute("DELETE FROM spending WHERE account = ?", (address,)).fetchall()
            forget_networks(connection, address)
            return True

        removed = False
        while not removed:
            await self._empty(account.id)
            removed = await self._writer.call(remove, lambda done: notices.of_address(address) if done else [])

    async def _empty(self, account: int) -> None:
        """Remove the mail of an account in steps, so that a large one holds nobody up."""
        boxes = self._reading.rows("SELECT id FROM mailbox WHERE account = ?", (account,))
        for (box,) in boxes:
            while (
                await self._writer.call(
                    lambda connection, box=box: remove_messages(connection, box, None, 0, AT_ONCE)  # type: ignore[misc]
                )
                == AT_ONCE
            ):
                continue
            while await self._writer.call(
                lambda connection, box=box: connection.execute(_FORGET_EXPUNGED, (box, AT_ONCE)).fetchall()  # type: ignore[misc]
            ):
                continue

    async def set_alias(self, alias: Alias) -> None:
        """Make or replace an alias. Raises `Conflict`."""

        def change(connection: apsw.Connection) -> None:
            taken = connection.execute("SELECT 1 FROM account WHERE address = ?", (alias.address,)).get
            if taken is not None:
                raise Conflict(f"{alias.address} is an account")
            connection.execute(
                "INSERT OR REPLACE INTO alias (address, targets) VALUES (?, ?)",
                (alias.address, text(list(alias.targets))),
            )

        await self._writer.call(change, lambda _: notices.of_address(alias.address))

    async def remove_alias(self, address: str) -> None:
        """Remove an alias. Raises `NotFound`."""

        def remove(connection: apsw.Connection) -> None:
            connection.execute("DELETE FROM alias WHERE address = ?", (address,))
            if not connection.changes():
                raise NotFound(f"there is no alias {address}")

        await self._writer.call(remove, lambda _: notices.of_address(address))

    async def spent(self, account: str, now: Micros) -> tuple[Spending, Spending]:
        """Return what an account has sent in the last hour and day."""
        row = self._reading.row(SPENT, windows(account, now)) or (0, 0, 0, 0)
        return Spending(*row[:2]), Spending(*row[2:4])


def _alias(address: str, targets: str) -> Alias:
    """Return an alias of its row. Raises `Damaged`, with what to do."""
    words = f"the alias {address} is damaged, and must be set or removed with `waypost alias`: its list of targets"
    return Alias(address, tuple(texts_from(targets, words)))


def _credentials(credentials: Credentials) -> tuple[Any, ...]:
    return (
        credentials.argon2,
        credentials.scram_salt,
        credentials.scram_iterations,
        credentials.scram_stored_key,
        credentials.scram_server_key,
    )
