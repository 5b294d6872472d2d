"""Mail from other servers: who is reached by which address, who is refused at RCPT, and a domain that lives twice."""

import asyncio
import re

import pytest
import pytest_asyncio
from tests.scenarios.clients import eventually, poll, run
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, BOB, BOB_PASSWORD, Town, World

from waypost.lab.host import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

BILL = "bill@wonderland.test"
CAROL = "carol@wonderland.test"
STRANGER = "x@elsewhere.test"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(shared_world: World) -> Town:
    """Alice, and Bill of little room, are at one host; Carol, of the same domain, is at the other one."""
    world = shared_world
    world.zone("wonderland.test", 11)
    world.zone("builder.test", 12)
    world.start_names()
    route = f'\n[[route]]\ndomains = ["wonderland.test"]\nhost = "[{world.address(12)}]"\n'
    both = {'domains = ["builder.test"]': 'domains = ["builder.test", "wonderland.test"]'}
    wonderland, builder = await asyncio.gather(
        world.host("wonderland.test", 11, {ALICE: ALICE_PASSWORD, BILL: BOB_PASSWORD}, extra=route),
        world.host("builder.test", 12, {BOB: BOB_PASSWORD}, changes=both),
    )
    await builder.run("account", "add", CAROL, "--password-stdin", stdin=BOB_PASSWORD + "\n")
    return Town(world, wonderland, builder)


async def knock(host: Host, recipient: str, *options: str, size: int = 0) -> str:
    """Send a message to port 25; return the answer to the recipient, or else to the message."""
    body = ["--body", ("x" * 70 + "\\n") * (size // 71)] if size else []
    words = await run(
        *["swaks", "--server", host.address, "--from", STRANGER, "--to", recipient, *body, *options], check=False
    )
    refused = re.search(r"^<(?:\*\*|~\*) (\d{3} .*)$", words, re.MULTILINE)
    accepted = re.search(r"^<[-~]  (250 2\.0\.0 Ok: queued.*)$", words, re.MULTILINE)
    found = refused or accepted
    assert found, words
    return found.group(1)


async def inbox(host: Host, person: str, password: str) -> bytes:
    [message] = await eventually(lambda: poll(host, person, password, delete=True))
    return message


async def test_every_name_of_bob_reaches_him(town: Town) -> None:
    await town.builder.run("alias", "add", "alias@builder.test", BOB)
    await town.builder.run("alias", "add", "@builder.test", BOB)
    for name in (
        "bob@builder.test",
        "BOB@Builder.Test",
        "bob+tag@builder.test",
        "alias@builder.test",
        "any@builder.test",
    ):
        assert (await knock(town.builder, name)).startswith("250")
        message = await inbox(town.builder, BOB, BOB_PASSWORD)
        assert b"Delivered-To: bob@builder.test\r\n" in message
    await town.builder.run("alias", "remove", "@builder.test")
    assert await knock(town.builder, "any@builder.test") == "550 5.1.1 No such user here"


async def test_a_group_reaches_all_of_its_members_here_and_elsewhere(town: Town) -> None:
    await town.builder.run("alias", "add", "all@builder.test", BOB, CAROL, ALICE)
    assert (await knock(town.builder, "all@builder.test")).startswith("250")
    for host, person, password in (
        (town.builder, BOB, BOB_PASSWORD),
        (town.builder, CAROL, BOB_PASSWORD),
    ):
        assert b"for <all@builder.test>" in await inbox(host, person, password)


@pytest.mark.parametrize(
    "name", ["postmaster@builder.test", "abuse@builder.test", "postmaster", "PostMaster@mx.builder.test"]
)
async def test_somebody_always_hears_postmaster_and_abuse(town: Town, name: str) -> None:
    await town.builder.run("account", "quota", BOB, "1KiB")
    assert (await knock(town.builder, name, size=4000)).startswith("250"), "whatever the quota"
    assert await inbox(town.builder, BOB, BOB_PASSWORD)
    await town.builder.run("account", "quota", BOB, "none")


async def test_a_full_mailbox_is_a_temporary_refusal_and_room_that_is_made_counts_at_once(town: Town) -> None:
    await town.wonderland.run("account", "quota", BILL, "10KiB")
    assert (await knock(town.wonderland, BILL, size=8000)).startswith("250")
    assert await knock(town.wonderland, BILL, size=8000) == "452 4.2.2 The mailbox is full"
    await inbox(town.wonderland, BILL, BOB_PASSWORD)
    assert (await knock(town.wonderland, BILL, size=8000)).startswith("250")
    await inbox(town.wonderland, BILL, BOB_PASSWORD)


async def test_nobody_is_refused_after_rcpt_and_nothing_is_relayed(town: Town) -> None:
    for nobody, answer in (
        ("nobody@builder.test", "550 5.1.1"),
        ("x@elsewhere.test", "550 5.7.1"),
        ("x%elsewhere.test@builder.test", "550 5.1.1"),
        ('"x@elsewhere.test"@builder.test', "550 5.1.1"),
        ("x@[127.0.0.1]", "550 5.7.1"),
    ):
        assert (await knock(town.builder, nobody)).startswith(answer), nobody


async def test_a_domain_may_live_at_two_hosts(town: Town) -> None:
    """Who is unknown at the first is looked for at the second, by the route; who is known nowhere comes back."""
    assert (await knock(town.wonderland, CAROL)).startswith("250")
    message = await inbox(town.builder, CAROL, BOB_PASSWORD)
    assert message.count(b"\r\nReceived: ") == 2
    assert (await knock(town.wonderland, ALICE)).startswith("250")
    assert await inbox(town.wonderland, ALICE, ALICE_PASSWORD)
