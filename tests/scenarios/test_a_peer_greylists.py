"""Mail leaves from four addresses, and Postfix with Postgrey greylists each client, sender and recipient anew."""

import asyncio
import smtplib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.peers.postfix import Postfix
from tests.peers.postgrey import Postgrey
from tests.scenarios.clients import eventually, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, World, change

from waypost.lab.host import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOURCES = (11, 111, 112, 113)
PEOPLE = tuple(f"user{number}" for number in range(13))
MORE = (114, 115)
DELAY = 2  # seconds


def tables(world: World, *numbers: int) -> str:
    return "".join(
        f'\n[[outbound.source]]\naddress = "{world.address(number)}"\nehlo = "out{number}.wonderland.test"\n'
        for number in numbers
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postgrey(shared_world: World) -> AsyncIterator[Postgrey]:
    policy = Postgrey(shared_world.directory / "postgrey", address=shared_world.address(13), delay=DELAY)
    policy.start()
    yield policy
    policy.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peer(shared_world: World, postgrey: Postgrey) -> AsyncIterator[Postfix]:
    world = shared_world
    world.zone("wonderland.test", 11)
    world.zone("grey.test", 13)
    world.start_names()
    postfix = Postfix(
        world.directory / "postfix",
        hostname="mx.grey.test",
        domain="grey.test",
        address=world.address(13),
        mailboxes=PEOPLE,
        nameserver=world.nameserver,
        settings={"smtpd_recipient_restrictions": f"reject_unauth_destination, {postgrey.policy}"},
    )
    postfix.start()
    yield postfix
    postfix.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(shared_world: World, peer: Postfix) -> Host:
    world = shared_world
    one = f'\n[[outbound.source]]\naddress = "{world.address(11)}"\n'
    changes = {
        one: tables(world, *SOURCES),
        'expire = "9s"': 'expire = "120s"',
        'delayed_notice = "4s"': 'delayed_notice = "0s"',
    }
    return await world.host("wonderland.test", 11, {ALICE: ALICE_PASSWORD}, changes=changes)


def submit(host: Host, *people: str) -> str:
    """Submit a message; return its trace id."""
    with smtplib.SMTP_SSL(
        host.address, 465, local_hostname="client.test", timeout=20, context=trusting(host)
    ) as session:
        session.login(ALICE, ALICE_PASSWORD)
        session.mail(ALICE)
        for person in people:
            assert session.rcpt(f"{person}@grey.test")[0] == 250
        code, words = session.data(f"From: {ALICE}\r\nTo: {people[0]}@grey.test\r\n\r\nhi\r\n".encode())
        assert code == 250, words
        return words.decode().split()[-1]


async def attempts(host: Host, trace: str, count: int) -> list[dict[str, Any]]:
    """Return the details of a message's attempts, once there are so many."""

    async def ask() -> list[dict[str, Any]]:
        events = (await host.json("trace", trace))["events"]
        found = [event["details"] for event in events if event["station"] in ("attempt", "relayed")]
        return found if len(found) >= count else []

    return await eventually(ask)


async def delivered(host: Host, trace: str) -> list[dict[str, Any]]:
    """Return the details of a message's attempts, once the last one has got through."""

    async def ask() -> list[dict[str, Any]]:
        events = (await host.json("trace", trace))["events"]
        found = [event["details"] for event in events if event["station"] in ("attempt", "relayed")]
        return found if events[-1]["station"] == "relayed" else []

    return await eventually(ask, seconds=60)


async def test_every_attempt_of_a_message_comes_from_one_source_and_it_arrives(
    shared_world: World, host: Host, peer: Postfix
) -> None:
    traces = [await asyncio.to_thread(submit, host, person) for person in PEOPLE[:8]]
    ways = [await delivered(host, trace) for trace in traces]
    for way in ways:
        assert len(way) >= 2 and "reylisted" in way[0]["reply"], "the peer greylists"
        assert len({attempt["source"] for attempt in way}) == 1
        assert not any("moved" in attempt for attempt in way)
    sources = {way[0]["source"] for way in ways}
    assert len(sources) > 1 and sources <= {shared_world.address(number) for number in SOURCES}
    for person in PEOPLE[:8]:
        [message] = peer.messages(person)
        assert b"\nhi\n" in message
    assert "helo=<out" in peer.log() and ".wonderland.test>" in peer.log(), "each source has its EHLO name"


async def test_the_next_message_to_the_same_person_is_not_greylisted_again(host: Host) -> None:
    [only] = await delivered(host, await asyncio.to_thread(submit, host, PEOPLE[0]))
    assert only["reply"].startswith("250")


async def test_all_recipients_of_a_message_share_its_source(host: Host) -> None:
    way = await delivered(host, await asyncio.to_thread(submit, host, *PEOPLE[8:10]))
    assert len({attempt["source"] for attempt in way}) == 1


async def test_while_it_waits_the_operator_sees_its_source_its_receiver_and_the_pace(host: Host) -> None:
    trace = await asyncio.to_thread(submit, host, PEOPLE[10])
    [first, *_] = await attempts(host, trace, 1)
    [entry] = await eventually(lambda: _shown(host, trace))
    assert entry["source"] == first["source"] and entry["receiver"] == "grey.test"
    pace = {each["source"]: each for each in entry["pacing"]}[first["source"]]
    assert pace["connections"] >= 1 and pace["reason"] in ("beginning", "growing")
    await delivered(host, trace)


async def _shown(host: Host, trace: str) -> list[dict[str, Any]]:
    found = await host.json("queue", "show", "--trace", trace)
    return [entry for entry in found if entry["pacing"]]


async def test_a_restart_with_a_longer_list_moves_nothing(shared_world: World, host: Host) -> None:
    trace = await asyncio.to_thread(submit, host, PEOPLE[11])
    [first, *_] = await attempts(host, trace, 1)
    await host.kill()
    change(host, {tables(shared_world, *SOURCES): tables(shared_world, *SOURCES, *MORE)})
    await host.start()
    way = await delivered(host, trace)
    assert {attempt["source"] for attempt in way} == {first["source"]}
    assert not any("moved" in attempt for attempt in way)


async def test_a_source_that_goes_from_the_list_moves_its_messages_and_the_journal_says_why(
    shared_world: World, host: Host, postgrey: Postgrey
) -> None:
    """Without its greylist the peer takes no recipient: so nothing gets through before the reload."""
    postgrey.stop()
    trace = await asyncio.to_thread(submit, host, PEOPLE[12])
    [first, *_] = await attempts(host, trace, 1)
    numbers = (*SOURCES, *MORE)
    left = [number for number in numbers if shared_world.address(number) != first["source"]]
    change(host, {tables(shared_world, *numbers): tables(shared_world, *left)})
    await host.run("reload")
    postgrey.start()
    way = await delivered(host, trace)
    sources = [attempt["source"] for attempt in way]
    assert sources[-1] != first["source"] and len(set(sources)) == 2
    moves = [attempt["moved"] for attempt in way if "moved" in attempt]
    assert moves == [f"{first['source']} is no source any more (outbound.source)"], "once, and then it stays"
    assert moves[0] in " ".join((await host.run("trace", trace)).split())
