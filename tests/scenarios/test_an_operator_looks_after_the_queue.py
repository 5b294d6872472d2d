"""Hundreds of messages wait for servers that are down: an operator finds them, and acts on all of them at once."""

import asyncio
import json
import os
import pty
import smtplib
import sys

import pytest
import pytest_asyncio
from tests.scenarios.clients import eventually, poll, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, World

from waypost.lab.host import Host, LabError

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = int(os.environ.get("WAYPOST_TEST_QUEUED", "600"))
SALES = "sales@wonderland.test"
SLOW = {'retry = ["1s", "2s", "3s"]': 'retry = ["1h"]', 'expire = "9s"': 'expire = "5d"', '"4s"': '"4h"'}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(shared_world: World) -> Host:
    """Alice's host, from which a message for each of COUNT people waits, at two domains that are down."""
    world = shared_world
    world.zone("wonderland.test", 11)
    world.zone("builder.test", 12)  # nobody lives at 12 and 13
    world.zone("silent.test", 13)
    world.start_names()
    host = await world.host("wonderland.test", 11, {ALICE: ALICE_PASSWORD}, changes=SLOW)
    await host.run("alias", "add", SALES, ALICE)
    await asyncio.to_thread(submit_all, host)

    async def rest() -> bool:
        stats = await host.json("queue", "stats")
        return bool(stats["entries"] == COUNT and not stats["due"])

    await eventually(rest, seconds=60)
    return host


def submit_all(host: Host) -> None:
    for start in range(0, COUNT, 1000):  # the server's limit of one session
        with smtplib.SMTP_SSL(
            host.address, 465, local_hostname="client.test", timeout=20, context=trusting(host)
        ) as session:
            session.login(ALICE, ALICE_PASSWORD)
            for number in range(start, min(start + 1000, COUNT)):
                sender = SALES if number % 10 == 0 else ALICE
                to = f"n{number}@{'silent' if number % 2 else 'builder'}.test"
                text = f"From: {sender}\r\nTo: {to}\r\nMessage-ID: <n{number}@queue.test>\r\n\r\nhi\r\n"
                session.sendmail(sender, [to], text.encode())


async def on_a_terminal(host: Host, *arguments: str) -> tuple[str, str]:
    """Run a command whose standard error stream is a terminal; return both streams."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "waypost", *arguments, "--config", str(host.config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = asyncio.create_task(asyncio.to_thread(_read_all, ours))
    out, _ = await process.communicate()
    words = await shown
    os.close(ours)
    assert process.returncode == 0, words
    return out.decode(), words


def _read_all(fd: int) -> str:
    shown = b""
    try:
        while part := os.read(fd, 65536):
            shown += part
    except OSError:  # the other end is closed (pty(7))
        pass
    return shown.decode(errors="replace")


async def test_what_waits_is_seen_in_figures_in_a_table_and_in_json(host: Host) -> None:
    stats = await host.json("queue", "stats")
    assert stats["entries"] == COUNT and stats["destinations"] == 2
    table = (await host.run("queue", "list", "--domain", "builder.test")).splitlines()
    assert len(table) == 101 and "connection refused" in table[1]
    everything = await host.json("queue", "list")
    assert len(everything) == COUNT
    assert {entry["destination"] for entry in everything} == {"builder.test", "silent.test"}
    one = await host.json("queue", "show", str(everything[0]["id"]))
    assert one[0]["trace"] == everything[0]["trace"]


async def test_filters_choose_and_a_dry_run_changes_nothing(host: Host) -> None:
    for options, count in (
        (["--domain", "silent.test"], COUNT // 2),
        (["--sender", SALES], COUNT // 10),
        (["--sender", "@wonderland.test", "--domain", "builder.test"], COUNT // 2),
        (["--error", "connection refused"], COUNT),
        (["--older-than", "1h"], 0),
        (["--newer-than", "1h"], COUNT),
        (["--state", "held"], 0),
    ):
        words = await host.run("queue", "hold", *options, "--dry-run")
        assert words == f"{count} entries would be held.\n", options
    assert (await host.json("queue", "stats"))["held"] == 0
    with pytest.raises(LabError, match="Say which"):
        await host.run("queue", "delete", "--yes")


async def test_hundreds_are_held_and_released_with_a_bar(host: Host) -> None:
    out, shown = await on_a_terminal(host, "queue", "hold", "--domain", "silent.test")
    assert out == f"{COUNT // 2} entries were held.\n"
    assert "Holding" in shown and f"/{COUNT // 2}" in shown
    assert (await host.json("queue", "stats"))["held"] == COUNT // 2
    assert (await host.run("queue", "retry", "--domain", "silent.test")).startswith("0 entries"), "held ones stay held"
    assert f"{COUNT // 2} entries were released" in await host.run("queue", "release", "--state", "held")


async def test_a_message_is_found_by_the_id_that_its_sender_knows(host: Host) -> None:
    way = await host.json("trace", "<n7@queue.test>")
    assert way["waiting"][0]["recipients"] == ["n7@silent.test"]
    words = await host.run("trace", "n8@queue.test")
    for part in ("submitted", "by alice@wonderland.test", "TLSv1.3", "connection refused", "next attempt"):
        assert part in words, words


async def test_senders_are_told_what_is_given_up_and_why(host: Host) -> None:
    words = await host.run(
        *["queue", "return", "--sender", SALES, "--domain", "builder.test"],
        *["--reason", "builder.test has closed its doors", "--yes"],
    )
    assert words == f"{COUNT // 10} entries were returned.\n"

    def told() -> list[bytes]:
        reports = poll(host, ALICE, ALICE_PASSWORD)
        return reports if len(reports) == COUNT // 10 else []

    reports = await eventually(told)
    assert b"builder.test has closed its doors" in reports[0] and b"Action: failed" in reports[0]


async def test_what_is_retried_goes_when_the_server_is_back_and_what_is_deleted_is_gone(
    host: Host, shared_world: World
) -> None:
    left = COUNT - COUNT // 10
    await host.run("queue", "delete", "--domain", "silent.test", "--sender", ALICE, "--yes")
    assert json.loads(await host.run("queue", "stats", "--json"))["entries"] == left - COUNT // 2
    builder = await shared_world.host("builder.test", 12, {"n2@builder.test": ALICE_PASSWORD})
    await builder.run("alias", "add", "@builder.test", "n2@builder.test")
    assert "were made due now" in await host.run("queue", "retry", "--domain", "builder.test")

    def arrived() -> bool:
        return len(poll(builder, "n2@builder.test", ALICE_PASSWORD)) == left - COUNT // 2

    await eventually(arrived, seconds=60)
    await eventually(lambda: is_empty(host))


async def is_empty(host: Host) -> bool:
    return bool((await host.json("queue", "stats"))["entries"] == 0)
