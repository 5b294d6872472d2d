"""Ten kills of hosts under load: nothing is lost, and nothing doubled but what a kill explains.

`make torture` does the same for longer.
"""

import re

import pytest
from tests.torture.kills import KillTorture

from waypost.lab.town import new_directory, remove_directory

KILLS = 10


@pytest.mark.timeout(400)
async def test_ten_kills_lose_nothing_and_double_nothing(worker_id: str) -> None:
    network = f"127.60.{re.sub(r'[^0-9]', '', worker_id) or 0}"
    # Not in pytest's folders: each session that starts beside this one forbids them to the workers' user again.
    folder = new_directory()
    figures = await KillTorture(folder, network, seed=1).run(KILLS)
    assert figures.kills.total() >= KILLS
    assert figures.unanswered and figures.reports and figures.deletions
    remove_directory(folder)  # when all is well; else it is looked at
