"""What accounts send, in buckets of five minutes: read for a decision, and counted in the commit of the message."""

from itertools import groupby
from operator import itemgetter
from typing import Any

import apsw

from waypost.message.trace import Micros
from waypost.storage.directory import Spending
from waypost.storage.spending import Expense
from waypost.storage.sqlite.rows import text

_BUCKET = 5 * 60 * 1_000_000
_HOUR = 3600 * 1_000_000
_DAY = 24 * _HOUR

# What lies ahead was counted by a clock that was wrong: it must not count until time comes there.
SPENT = """
SELECT coalesce(sum(messages) FILTER (WHERE bucket > :hour AND bucket <= :last), 0),
       coalesce(sum(recipients) FILTER (WHERE bucket > :hour AND bucket <= :last), 0),
       coalesce(sum(messages) FILTER (WHERE bucket > :day AND bucket <= :last), 0),
       coalesce(sum(recipients) FILTER (WHERE bucket > :day AND bucket <= :last), 0),
       min(bucket), max(bucket)
FROM spending WHERE account = :account"""
"""The sums of the last hour and day, and the first and last bucket; with the values of `windows`."""

_FORGET_PAST = "DELETE FROM spending WHERE account = :account AND bucket < :day"
_FORGET_AHEAD = "DELETE FROM spending WHERE account = :account AND bucket > :last"

_COUNT = """
INSERT INTO spending (account, bucket, messages, recipients)
SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?) WHERE true
ON CONFLICT (account, bucket) DO UPDATE
SET messages = messages + excluded.messages, recipients = recipients + excluded.recipients"""


def windows(account: str, now: Micros) -> dict[str, Any]:
    """Return the values of `SPENT`: the buckets after which an hour and a day begin, and the last one that counts."""
    return {
        "account": account,
        "hour": (now - _HOUR) // _BUCKET,
        "day": (now - _DAY) // _BUCKET,
        "last": now // _BUCKET + 1,
    }


class Count:
    """What the messages of one group commit spend: each is judged by all that came before it, here and in the rows."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._sums: dict[str, tuple[Spending, Spending]] = {}
        self._new: dict[tuple[str, int], tuple[int, int]] = {}
        self._stale: dict[str, dict[str, Any]] = {}  # accounts with buckets that count no more

    def add(self, expense: Expense, now: Micros) -> str | None:
        """Count one message; returns the limit that it would exceed, and then it is not counted."""
        hour, day = self._sums.get(expense.account) or self._read(expense.account, now)
        exceeded = expense.exceeded(hour, day)
        if exceeded is None:
            hour, day = (Spending(one.messages + 1, one.recipients + expense.recipients) for one in (hour, day))
            key = expense.account, now // _BUCKET
            messages, recipients = self._new.get(key, (0, 0))
            self._new[key] = messages + 1, recipients + expense.recipients
        self._sums[expense.account] = hour, day
        return exceeded

    def _read(self, account: str, now: Micros) -> tuple[Spending, Spending]:
        values = windows(account, now)
        row: tuple[Any, ...] = self._connection.execute(SPENT, values).fetchone() or (0, 0, 0, 0, None, None)
        first, last = row[4:]
        if first is not None and (first < values["day"] or last > values["last"]):
            self._stale[account] = values
        return Spending(*row[:2]), Spending(*row[2:4])

    def flush(self) -> None:
        """Write what was counted, in the order of its keys, so that no two writers wait for each other's rows.

        Buckets that count no more are removed where the order reaches them.
        """
        if not self._new:
            return
        rows = [[*key, *counted] for key, counted in sorted(self._new.items())]
        if not self._stale:
            self._connection.execute(_COUNT, (text(rows),))
        else:
            for account, of_one in groupby(rows, key=itemgetter(0)):
                self._replace(account, list(of_one))
        self._new.clear()
        self._sums.clear()
        self._stale.clear()

    def _replace(self, account: str, rows: list[list[Any]]) -> None:
        stale = self._stale.get(account)
        if stale is not None:
            self._connection.execute(_FORGET_PAST, stale).fetchall()
        self._connection.execute(_COUNT, (text(rows),)).fetchall()
        if stale is not None:
            self._connection.execute(_FORGET_AHEAD, stale).fetchall()
