"""From which networks an account has logged in: durable, for all workers, and bounded."""

from tests.storage.letters import Engine

from waypost.login.passwords import make_credentials
from waypost.storage.networks import MOST_NETWORKS

BOB, ALICE = "bob@builder.test", "alice@builder.test"
CREDENTIALS = make_credentials("can we fix it?")
NOW = 1_795_500_000_000_000
DAY = 24 * 3600 * 1_000_000


async def test_a_network_is_known_after_a_login_and_after_a_restart(engine: Engine) -> None:
    storage = (await engine.open()).storage
    await storage.directory.add_account(BOB, CREDENTIALS, quota=0, now=NOW)
    assert not await storage.networks.knows(BOB, "192.0.2.1")
    await storage.networks.remember(BOB, "192.0.2.1", NOW)
    await engine.close()
    storage = (await engine.open()).storage
    assert await storage.networks.knows(BOB, "192.0.2.1")
    assert not await storage.networks.knows(BOB, "192.0.2.2")
    assert not await storage.networks.knows(ALICE, "192.0.2.1")
    await engine.close()


async def test_a_network_is_written_down_once_a_day(engine: Engine) -> None:
    opened = await engine.open()
    networks = opened.storage.networks
    await opened.storage.directory.add_account(BOB, CREDENTIALS, quota=0, now=NOW)
    await networks.remember(BOB, "192.0.2.1", NOW)
    commits = opened.commits
    for hour in range(24):
        await networks.remember(BOB, "192.0.2.1", NOW + hour * DAY // 24)
    assert opened.commits == commits
    await networks.remember(BOB, "192.0.2.1", NOW + DAY)
    assert opened.commits == commits + 1
    await networks.expire(NOW + DAY)
    assert await networks.knows(BOB, "192.0.2.1")
    await networks.expire(NOW + DAY + 1)
    assert not await networks.knows(BOB, "192.0.2.1")
    await engine.close()


async def test_an_account_keeps_the_networks_of_its_last_logins(engine: Engine) -> None:
    storage = (await engine.open()).storage
    for account in (ALICE, BOB):
        await storage.directory.add_account(account, CREDENTIALS, quota=0, now=NOW)
    await storage.networks.remember(ALICE, "192.0.2.1", NOW)
    for number in range(MOST_NETWORKS + 5):
        await storage.networks.remember(BOB, f"phone {number}", NOW + number)
    known = [await storage.networks.knows(BOB, f"phone {number}") for number in range(MOST_NETWORKS + 5)]
    assert known == [False] * 5 + [True] * MOST_NETWORKS
    assert await storage.networks.knows(ALICE, "192.0.2.1")
    await engine.close()


async def test_nothing_stays_of_an_account_that_is_removed(engine: Engine) -> None:
    storage = (await engine.open()).storage
    await storage.directory.add_account(BOB, CREDENTIALS, quota=0, now=NOW)
    await storage.networks.remember(BOB, "192.0.2.1", NOW)
    await storage.directory.set_credentials(BOB, make_credentials("a new one"))
    assert await storage.networks.knows(BOB, "192.0.2.1"), "a new password keeps the owner's networks"
    await storage.directory.remove_account(BOB)
    await storage.networks.remember(BOB, "192.0.2.1", NOW)
    assert not await storage.networks.knows(BOB, "192.0.2.1")
    await engine.close()


async def test_housekeeping_forgets_a_network_after_half_a_year(engine: Engine) -> None:
    opened = await engine.open()
    await opened.storage.directory.add_account(BOB, CREDENTIALS, quota=0, now=NOW)
    await opened.storage.networks.remember(BOB, "192.0.2.1", NOW)
    await opened.maintain(now=NOW + 180 * DAY)
    assert await opened.storage.networks.knows(BOB, "192.0.2.1")
    await opened.maintain(now=NOW + 181 * DAY)
    assert not await opened.storage.networks.knows(BOB, "192.0.2.1")
    await engine.close()
