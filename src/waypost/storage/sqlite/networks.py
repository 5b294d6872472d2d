"""Known networks of the embedded engine: one row for an account and a network."""

import apsw

from waypost.message.trace import Micros
from waypost.storage.networks import MOST_NETWORKS, NOTED_AGAIN
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.operation import Operation
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.reading import Reading

_SEEN = "SELECT seen FROM known_network WHERE account = ? AND network = ?"
_NOTE = """
INSERT INTO known_network (account, network, seen) SELECT ?1, ?2, ?3 WHERE EXISTS
(SELECT 1 FROM account WHERE address = ?1)
ON CONFLICT (account, network) DO UPDATE SET seen = excluded.seen"""
_TRIM = """
DELETE FROM known_network WHERE account = ?1 AND network IN
(SELECT network FROM known_network WHERE account = ?1 ORDER BY seen DESC LIMIT -1 OFFSET ?2)"""


def forget_networks(connection: apsw.Connection, account: str) -> None:
    """Drop what is known of an account that is removed; part of that transaction."""
    connection.execute("DELETE FROM known_network WHERE account = ?", (account,)).fetchall()


class SqliteNetworks:
    """Remembers pairs of an account and a network."""

    def __init__(self, writer: Writer, reading: Reading) -> None:
        self._writer = writer
        self._reading = reading

    async def knows(self, account: str, network: str) -> bool:
        """Say whether the account has logged in from there. Raises `StorageError`."""
        return self._reading.value(_SEEN, (account, network)) is not None

    async def remember(self, account: str, network: str, now: Micros) -> None:
        """Note a login, unless it was noted lately. Raises `StorageError` and its kinds."""
        seen = self._reading.value(_SEEN, (account, network))
        if seen is not None and 0 <= now - seen < NOTED_AGAIN:
            return

        def note(batch: Batch) -> None:
            batch.flush()
            batch.connection.execute(_NOTE, (account, network, now)).fetchall()
            batch.connection.execute(_TRIM, (account, MOST_NETWORKS)).fetchall()

        await self._writer.write(Operation(note, patient=True))

    async def expire(self, before: Micros) -> None:
        """Drop the networks from which nobody has logged in since. Raises `StorageError`."""
        if self._reading.value("SELECT 1 FROM known_network WHERE seen < ? LIMIT 1", (before,)) is None:
            return
        await self._writer.call(
            lambda connection: connection.execute("DELETE FROM known_network WHERE seen < ?", (before,)).fetchall()
        )
