"""SSRF by MX: whoever owns a domain says where its mail goes, and must not send us into our own network."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.security.live import Live, Recorder, changed, host

from waypost.lab.names import LabNameServer

ZONES = {
    "loopback.test": "@ IN MX 10 mx\nmx IN A 127.0.0.9",
    "cloud.test": "@ IN MX 10 mx\nmx IN A 169.254.169.254",
    "private.test": "@ IN MX 10 mx\nmx IN A 10.0.0.5\nmx IN A 192.168.1.1\nmx IN A 172.16.0.1\nmx IN A 100.64.0.1",
    "mapped.test": "@ IN MX 10 mx\nmx IN AAAA ::ffff:127.0.0.9\nmx IN AAAA ::1\nmx IN AAAA fe80::1\nmx IN AAAA fd00::1",
    "translated.test": "@ IN MX 10 mx\nmx IN AAAA 64:ff9b::7f00:9\nmx IN AAAA 2002:7f00:9::",
    "nowhere.test": "@ IN MX 10 mx\nmx IN A 0.0.0.0\nmx IN A 255.255.255.255\nmx IN A 224.0.0.1",
    "implicit.test": "@ IN A 127.0.0.9",
    "aliased.test": "@ IN MX 10 mx\nmx IN CNAME localhost.loopback.test.",
    "first.test": "@ IN MX 10 mx\n@ IN MX 20 mx.loopback.test.\nmx IN A 10.0.0.5",
}
LITERALS = ["[127.0.0.9]", "[169.254.169.254]", "[IPv6:::1]", "[IPv6:::ffff:127.0.0.9]", "[10.1.2.3]", "[0.0.0.0]"]


@pytest.fixture
async def inside() -> AsyncIterator[Recorder]:
    """A service inside of our network, on the port that mail goes to here."""
    async with Recorder().open("127.0.0.9") as server:
        yield server


@pytest.fixture
async def here(tmp_path: Path, inside: Recorder) -> AsyncIterator[Live]:
    names = LabNameServer({**ZONES, "loopback.test": ZONES["loopback.test"] + "\nlocalhost IN A 127.0.0.9"})
    port = await names.start("127.0.0.1", 0)
    live = changed(host(tmp_path, "here.test", dns=port), outbound={"port": inside.port})
    async with live as opened:
        await opened.account("alice@here.test")
        yield opened
    await names.stop()


async def test_no_way_leads_into_our_own_network(here: Live, inside: Recorder) -> None:
    alice = await here.submitter("alice@here.test")
    domains = [*ZONES, *LITERALS]
    for domain in domains:
        await alice.say("MAIL FROM:<alice@here.test>")
        assert (await alice.say(f"RCPT TO:<x@{domain}>")).startswith("250"), domain
        assert (await alice.content(b"From: alice@here.test\r\n\r\nhi\r\n.\r\n")).startswith("250")
    await alice.close()
    await here.idle()
    assert inside.connections == 0
    reports = b"".join(await here.inbox("alice@here.test"))
    for domain in domains:
        assert f"x@{domain}".encode() in reports, f"mail for {domain} came back"


async def test_where_the_operator_allows_it_the_same_way_is_open(here: Live, inside: Recorder, tmp_path: Path) -> None:
    """The test above proves something only if the name server, the port and the service are right."""
    live = changed(
        here, outbound={"allow_private_addresses": True}, data=tmp_path / "other", listeners=here.settings.listeners
    )
    async with live as opened:
        await opened.account("alice@here.test")
        alice = await opened.submitter("alice@here.test")
        await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<x@loopback.test>")
        await alice.content(b"From: alice@here.test\r\n\r\nhi\r\n.\r\n")
        await alice.close()
        await opened.idle()
    assert inside.connections == 1 and len(inside.contents) == 1
