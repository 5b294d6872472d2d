"""A damaged page of the journal, or of its index, costs the events on it: others go with their age, and mail comes."""

from pathlib import Path

import apsw
import pytest
from tests.storage.damage import pages_of, wreck
from tests.storage.letters import SECOND, START, Engine, Letters

from waypost.storage.sqlite.opening.migrate import DATABASE

DAY = 86_400 * SECOND
ROWS = 2500


def fill(data: Path) -> None:
    connection = apsw.Connection(str(data / DATABASE))
    with connection:
        connection.executemany(
            "INSERT INTO journal (message, time, events) VALUES (?, ?, ?)",
            [(number, START - 40 * DAY, "[]" + " " * 40) for number in range(1, ROWS + 1)],
        ).fetchall()
    connection.close()


@pytest.mark.parametrize("octets", [b"\0", b"\xff"])
@pytest.mark.parametrize("which", [0, 1, 5, -1], ids=["root", "first leaf", "another leaf", "last leaf"])
@pytest.mark.parametrize("name", ["journal", "journal_of_message"])
async def test_all_old_events_go_and_mail_comes_whatever_page_is_damaged(
    engine: Engine, name: str, which: int, octets: bytes
) -> None:
    await engine.open()
    await engine.close()
    fill(engine.data)
    wreck(engine.data, pages_of(engine.data, name)[which], octets)
    opened = await engine.open()
    letters = Letters(opened.storage, engine.clock)
    young = await letters.post(to=["bob@builder.test"])
    gone = 0
    while dropped := await opened.storage.journal.expire(START - 30 * DAY, limit=1000):
        gone += dropped
    lost = ROWS - gone
    assert lost == 0 or (name == "journal" and (lost < 100 or which == 0)), "only what the page held is lost"
    assert len(await opened.storage.journal.of(young)) == 1
