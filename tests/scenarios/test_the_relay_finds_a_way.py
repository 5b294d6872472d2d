"""The way out, with names served by NSD: which server is tried, what else is tried, and where mail never goes."""

import asyncio
import smtplib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from tests.scenarios.clients import eventually, poll, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, BOB_PASSWORD, Town, World
from tests.transport.mail_server import STALL, MailServer

from waypost.lab.host import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

PEOPLE = ("two", "cname", "plain", "six", "implicit", "far")
SMART = "alice@laptop.test"
SECOND_SOURCE = 111


def zones_of(world: World) -> dict[str, str]:
    """Domains whose mail servers are to be found in every way that there is."""
    here = world.address(12)
    return {
        "wonderland.test": f"@ IN MX 10 mx\nmx IN A {world.address(11)}",
        "builder.test": f"@ IN MX 10 mx\nmx IN A {here}",
        "two.test": f"@ IN MX 10 dead\n@ IN MX 20 live\ndead IN A {world.address(90)}\nlive IN A {here}",
        "cname.test": "@ IN MX 10 alias\nalias IN CNAME mx.builder.test.",
        "implicit.test": f"@ IN A {here}",
        "six.test": f"@ IN MX 10 mx\nmx IN AAAA ::1\nmx IN A {here}",  # nobody listens at port 25 of ::1
        "null.test": "@ IN MX 0 .",
        "never.test": f"@ IN MX 10 mx\nmx IN A {world.address(91)}",
        "broken.test": f"@ IN MX 10 mx\nmx IN A {world.address(92)}",
        "hangs.test": f"@ IN MX 10 mx\nmx IN A {world.address(93)}",
        "self.test": "@ IN MX 10 mx.wonderland.test.",
        "nowhere.test": "@ IN MX 10 gone",
        "laptop.test": "@ IN TXT nothing",
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(shared_world: World) -> Town:
    """Alice's host, and one that hosts everybody whose server can be found."""
    world = shared_world
    world.zones.update(zones_of(world))
    world.start_names()
    domains = ", ".join(f'"{name}.test"' for name in PEOPLE)
    sources = f'source_addresses = ["{world.address(11)}", "{world.address(SECOND_SOURCE)}", "::1"]'
    everything = f'\n[[listener]]\nprotocol = "smtp"\naddress = "[::1]:{port_six(world)}"\n'
    route = f'\n[[route]]\ndomains = ["far.test"]\nhost = "[IPv6:::1]"\nport = {port_six(world)}\n'
    wonderland, builder = await asyncio.gather(
        world.host(
            "wonderland.test",
            11,
            {ALICE: ALICE_PASSWORD},
            extra=route,
            changes={
                f'\n[[outbound.source]]\naddress = "{world.address(11)}"\n': sources + "\n",
                'expire = "9s"': 'expire = "60s"',
            },
        ),
        world.host(
            "builder.test",
            12,
            {"bob@builder.test": BOB_PASSWORD},
            extra=everything,
            changes={'domains = ["builder.test"]': f'domains = ["builder.test", {domains}]'},
        ),
    )
    for name in PEOPLE:
        await builder.run("alias", "add", f"@{name}.test", "bob@builder.test")
    return Town(world, wonderland, builder)


def port_six(world: World) -> int:
    """Return a port of ::1 that no other test process uses."""
    return 20_000 + int(world.network.split(".")[1])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def odd_servers(town: Town) -> AsyncIterator[dict[str, MailServer]]:
    """A server that never takes mail, one whose TLS is broken, and one that says nothing at all."""
    servers = {
        "never": MailServer(address=town.world.address(91), GREETING="521 5.3.2 never", EHLO="521 5.3.2 never"),
        "broken": MailServer("STARTTLS", "PIPELINING", address=town.world.address(92)),
        "hangs": MailServer(address=town.world.address(93), GREETING=STALL),
    }
    for server in servers.values():
        server.port = 25
        await server.start()
    yield servers
    for server in servers.values():
        await server.stop()


def submit(host: Host, *recipients: str, user: str = ALICE) -> str:
    """Submit a message; return its trace id."""
    with smtplib.SMTP_SSL(
        host.address, 465, local_hostname="client.test", timeout=20, context=trusting(host)
    ) as session:
        session.login(user, ALICE_PASSWORD)
        session.mail(user)
        for recipient in recipients:
            assert session.rcpt(recipient)[0] == 250
        code, words = session.data(f"From: {user}\r\nTo: {recipients[0]}\r\nSubject: hi\r\n\r\nhi\r\n".encode())
        assert code == 250, words
        return words.decode().split()[-1]


async def end_of(host: Host, trace: str, stations: Sequence[str] = ("relayed", "returned")) -> dict[str, Any]:
    """Wait until a message is relayed or returned; return the details of that."""

    async def found() -> dict[str, Any] | None:
        for event in (await host.json("trace", trace))["events"]:
            if event["station"] in stations:
                return {"station": event["station"], **event["details"]}
        return None

    return await eventually(found)


async def arrived(builder: Host, count: int = 1) -> list[bytes]:
    def ask() -> list[bytes]:
        messages = poll(builder, "bob@builder.test", BOB_PASSWORD)
        return messages if len(messages) >= count else []

    await eventually(ask)
    return poll(builder, "bob@builder.test", BOB_PASSWORD, delete=True)


async def test_the_next_server_is_tried_and_names_of_every_kind_are_followed(town: Town) -> None:
    for domain, host in (
        ("two.test", "live.two.test"),
        ("cname.test", "alias.cname.test"),
        ("implicit.test", "implicit.test"),
        ("six.test", "mx.six.test"),
    ):
        trace = await asyncio.to_thread(submit, town.wonderland, f"bob@{domain}")
        end = await end_of(town.wonderland, trace)
        assert (end["station"], end["host"]) == ("relayed", host)
        assert end["address"] == f"{town.builder.address}:25" and end["tls"].startswith("TLSv1.3")
        assert await arrived(town.builder)


async def test_mail_goes_over_ipv6(town: Town) -> None:
    trace = await asyncio.to_thread(submit, town.wonderland, "bob@far.test")
    end = await end_of(town.wonderland, trace)
    assert end["station"] == "relayed" and end["address"].startswith("[::1]:")
    [message] = await arrived(town.builder)
    assert b"([IPv6:::1])" in message


async def test_what_can_never_arrive_comes_back_at_once_with_the_reason(
    town: Town, odd_servers: dict[str, MailServer]
) -> None:
    for domain, status, words in (
        ("null.test", "5.1.10", "takes no mail"),
        ("nowhere.test", "5.4.4", "no mail server of nowhere.test has an address"),
        ("missing.wonderland.test", "5.1.2", "does not exist"),
        ("self.test", "5.4.6", "mail loop"),
        ("never.test", "5.3.2", "521 5.3.2 never"),
    ):
        trace = await asyncio.to_thread(submit, town.wonderland, f"bob@{domain}")
        end = await end_of(town.wonderland, trace)
        assert end["station"] == "returned" and end["status"] == status
        assert words in (end.get("reply") or end["problem"])
        [report] = await eventually(lambda: poll(town.wonderland, ALICE, ALICE_PASSWORD, delete=True))
        assert f"Status: {status}".encode() in report


async def test_broken_tls_is_done_without_and_remembered(town: Town, odd_servers: dict[str, MailServer]) -> None:
    broken = odd_servers["broken"]
    for _ in range(2):
        trace = await asyncio.to_thread(submit, town.wonderland, "bob@broken.test")
        end = await end_of(town.wonderland, trace)
        assert end["station"] == "relayed" and end["tls"] is None
    tries = sum("STARTTLS" in visit.lines for visit in broken.visits)
    assert 1 <= tries <= 2, "once for each worker"
    assert len(broken.taken) == 2


async def test_recipients_of_one_domain_share_a_transaction(town: Town) -> None:
    people = [f"bob+{number}@builder.test" for number in range(5)]
    trace = await asyncio.to_thread(submit, town.wonderland, *people)
    end = await end_of(town.wonderland, trace)
    assert end["recipients"] == people
    assert len(await arrived(town.builder)) == 1


async def test_messages_are_spread_over_the_chosen_source_addresses_and_each_recipient_has_one(town: Town) -> None:
    seen: dict[str, set[str]] = {}
    for _ in range(2):
        for number in range(12):
            recipient = f"bob+{number}@builder.test"
            trace = await asyncio.to_thread(submit, town.wonderland, recipient)
            seen.setdefault(recipient, set()).add((await end_of(town.wonderland, trace))["source"])
    assert all(len(sources) == 1 for sources in seen.values())
    assert set.union(*seen.values()) == {town.world.address(11), town.world.address(SECOND_SOURCE)}
    await arrived(town.builder, 24)


async def test_a_server_that_says_nothing_delays_nobody_else(town: Town, odd_servers: dict[str, MailServer]) -> None:
    for _ in range(5):
        await asyncio.to_thread(submit, town.wonderland, "bob@hangs.test")
    await odd_servers["hangs"].until(lambda: odd_servers["hangs"].open)
    trace = await asyncio.to_thread(submit, town.wonderland, "bob@builder.test", "bob@hangs.test")
    assert (await end_of(town.wonderland, trace))["host"] == "mx.builder.test"
    assert odd_servers["hangs"].open, "it still hangs"
    await arrived(town.builder)
    assert "6 entries" in await town.wonderland.run("queue", "delete", "--domain", "hangs.test", "--yes")


async def test_a_laptop_sends_through_its_smart_host_and_never_into_private_networks(town: Town) -> None:
    """A host that only sends: port 25 is closed to it, so everything goes to Alice's host, with a login over TLS."""
    world = town.world
    await town.wonderland.run("account", "add", "laptop@wonderland.test", "--password-stdin", stdin=BOB_PASSWORD + "\n")
    await town.wonderland.run("alias", "add", "roaming@wonderland.test", "laptop@wonderland.test")
    laptop = await world.host(
        "laptop.test",
        14,
        {},
        changes={
            'domains = ["laptop.test"]': "domains = []",
            "allow_private_addresses = true": "allow_private_addresses = false",
        },
        start=False,
    )
    await laptop.run(
        "account", "add", "roaming@wonderland.test", "--send-only", "--password-stdin", stdin=ALICE_PASSWORD
    )
    await laptop.start()
    trace = await asyncio.to_thread(submit, laptop, "bob@builder.test", user="roaming@wonderland.test")
    end = await end_of(laptop, trace)
    assert end["station"] == "returned" and "private or reserved networks" in end["problem"]
    await laptop.stop()
    (laptop.directory / "secret").write_text(BOB_PASSWORD + "\n")
    laptop.config.write_text(
        laptop.config.read_text()
        + '\n[[route]]\ndomains = ["*"]\nhost = "mx.wonderland.test"\nport = 587\nusername = "laptop@wonderland.test"\n'
        'password_file = "secret"\n'
    )
    await laptop.run("check")
    await laptop.start()
    trace = await asyncio.to_thread(submit, laptop, "bob@builder.test", user="roaming@wonderland.test")
    end = await end_of(laptop, trace)
    assert (end["station"], end["address"]) == ("relayed", f"{town.wonderland.address}:587")
    [message] = await arrived(town.builder)
    assert message.count(b"with ESMTPSA") == 2, "submitted twice, with a login"
    await laptop.stop()
