"""Query plans: with a million entries no statement of the road reads the whole queue."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from waypost.storage import Filter
from waypost.storage.queue import EntryState
from waypost.storage.sqlite import journal, mailboxes, spool
from waypost.storage.sqlite.commit import batch
from waypost.storage.sqlite.opening.migrate import DATABASE, migrate
from waypost.storage.sqlite.queue import clock, listing, queue, waking
from waypost.storage.sqlite.upkeep import maintenance

SOMETHING = dict.fromkeys(
    ("name", "now", "owner", "until", "limit", "priority", "exclude", "names", "ids", "last", "page", "before", "end"),
    "[]",
)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    folder: Path = tmp_path_factory.mktemp("plans")
    migrate(folder)
    connection = apsw.Connection(str(folder / DATABASE))
    yield connection
    connection.close()


def plan(connection: apsw.Connection, sql: str) -> list[str]:
    """Return the steps of a statement that touch tables."""
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", _Anything()).fetchall()
    return [row[3] for row in rows if row[3].startswith(("SCAN", "SEARCH"))]


class _Anything(dict[str, object]):
    def __missing__(self, key: str) -> object:
        return SOMETHING.get(key, "[]")


NAMED = {
    "claim": queue._CLAIMABLE,
    "claim expired": queue._EXPIRED,
    "claim wanted": queue._WANTED,
    "lease": queue._LEASE,
    "renew": queue._RENEW,
    "give back": waking.GIVE_BACK.replace("?", ":name"),
    "earliest": waking.EARLIEST,
    "due": queue._DUE,
    "due, from the index": queue._DUE_IDS,
    "rest": queue._REST.replace("?", ":name"),
    "late": clock._LOOK,
    "move a planned attempt": clock._MOVE,
    "next due": "SELECT min(wake) FROM destination WHERE owner = -1 AND wake IS NOT NULL",
    "ids of a destination": listing._IDS.format(key="destination = :domain"),
    "ids of a message": listing._IDS.format(key="message = :trace"),
    "page of ids": listing._PAGE_OF_IDS.format(where="true"),
    "empty segments": maintenance._EMPTY_ONES,
    "half-dead segments": maintenance._HALF_DEAD,
    "forget empty": maintenance._FORGET.replace("?", ":x"),
    "living records": maintenance._LIVING.replace("?", ":x"),
    "move": maintenance._MOVE,
    "old names": journal._DELETE_NAMES,
    "messages of a mailbox": mailboxes._MESSAGES,
    "forms of a mailbox": mailboxes._FORMS,
    "place": spool._PLACE.replace("?", ":x"),
} | {
    f"batch {name}": sql.replace("?", ":rows")
    for name, sql in vars(batch).items()
    if name.isupper() and isinstance(sql, str)
}


SMALL = (
    "VIRTUAL TABLE",
    "CONSTANT ROW",
    "SCAN used",
    "SCAN grown",
    "SCAN new",
    "SCAN moved",
    "SCAN (",
    "INDEX segment_",
)


@pytest.mark.parametrize("name", NAMED)
def test_no_statement_of_the_road_reads_a_whole_table(connection: apsw.Connection, name: str) -> None:
    steps = plan(connection, NAMED[name])
    assert steps
    assert [step for step in steps if step.startswith("SCAN") and not any(part in step for part in SMALL)] == []


def test_claims_read_the_index_of_what_is_due(connection: apsw.Connection) -> None:
    for name in ("claim", "claim expired", "next due"):
        assert "destination_due" in plan(connection, NAMED[name])[0]
    assert any("entry_due" in step and "next_attempt<" in step for step in plan(connection, NAMED["due"]))


def test_a_queue_is_listed_in_one_pass_in_the_order_of_its_ids(connection: apsw.Connection) -> None:
    for which in (Filter(), Filter(state=EntryState.HELD), Filter(error="x"), Filter(sender="@x")):
        where, _ = listing.where_of(which, 0)
        rows = connection.execute(
            "EXPLAIN QUERY PLAN " + listing._PAGE_OF_ALL.format(where=where), _Anything()
        ).fetchall()
        steps = [row[3] for row in rows]
        assert "SEARCH entry USING INTEGER PRIMARY KEY (rowid>?)" in steps
        assert not [step for step in steps if "TEMP B-TREE" in step]


def test_the_figures_come_from_indexes_alone(connection: apsw.Connection) -> None:
    for sql in (listing._FIGURES.replace("?", ":x"), listing._LARGEST.replace("?", ":x")):
        assert plan(connection, sql) == ["SCAN entry USING COVERING INDEX entry_due"]
