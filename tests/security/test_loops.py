"""Mail loops: each ends by itself, with one report to who sent the message."""

from pathlib import Path

import pytest
from tests.security.live import changed, free_port, host, until

from waypost.lab.names import LabNameServer


async def test_two_hosts_that_forward_to_each_other_end_it_with_one_report(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    async with (
        host(tmp_path / "a", "here.test", port=ports[0], next_hop=("there.test", ports[1])) as here,
        host(tmp_path / "b", "there.test", port=ports[1], next_hop=("here.test", ports[0])) as there,
    ):
        await here.account("alice@here.test")
        await here.alias("round@here.test", "round@there.test")
        await there.alias("round@there.test", "round@here.test")
        alice = await here.submitter("alice@here.test")
        await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<round@here.test>")
        await alice.content(b"From: alice@here.test\r\n\r\nround and round\r\n.\r\n")
        await alice.close()
        await until(lambda: here.inbox("alice@here.test"))
        await here.idle()
        await there.idle()
        [report] = await here.inbox("alice@here.test")
        assert b"5.4.6" in report


async def test_a_message_with_very_many_hops_is_refused_and_our_own_name_ends_it_sooner(tmp_path: Path) -> None:
    async with host(tmp_path, "here.test") as here:
        await here.account("alice@here.test")
        wire = await here.client()
        await wire.reply()
        await wire.say("EHLO x.test")
        for hops in (b"Received: by x\r\n" * 51, b"Received: from x\r\n\tby mx.here.test (Waypost) with ESMTP\r\n" * 5):
            await wire.say("MAIL FROM:<x@far.test>", "RCPT TO:<alice@here.test>")
            reply = await wire.content(hops + b"Subject: x\r\n\r\nhi\r\n.\r\n")
            assert reply.startswith("554 5.4.6")
        await wire.close()
        assert await here.inbox("alice@here.test") == [] and await here.queued() == []


@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_aliases_in_a_circle_are_refused_at_rcpt(tmp_path: Path, size: int) -> None:
    async with host(tmp_path, "here.test") as here:
        for number in range(size):
            await here.alias(f"a{number}@here.test", f"a{(number + 1) % size}@here.test")
        wire = await here.client()
        await wire.reply()
        await wire.say("EHLO x.test", "MAIL FROM:<x@far.test>")
        reply = await wire.say("RCPT TO:<a0@here.test>")
        assert reply[:1] in "45" and reply[:1] != "2"
        await wire.close()
        assert await here.queued() == []


@pytest.mark.parametrize("zone", ["@ IN MX 10 mx.here.test.", "@ IN MX 10 mx\nmx IN A 127.0.0.1"])
async def test_an_mx_that_points_back_at_us_is_a_loop_and_not_tried(tmp_path: Path, zone: str) -> None:
    names = LabNameServer({"circle.test": zone, "here.test": "mx IN A 127.0.0.1"})
    port = await names.start("127.0.0.1", 0)
    try:
        live = changed(host(tmp_path, "here.test", dns=port), outbound={"allow_private_addresses": True})
        async with live as here:
            await here.account("alice@here.test")
            alice = await here.submitter("alice@here.test")
            await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<x@circle.test>")
            await alice.content(b"From: alice@here.test\r\n\r\nhi\r\n.\r\n")
            await alice.close()
            await here.idle()
            [report] = await here.inbox("alice@here.test")
            assert b"5.4.6" in report
    finally:
        await names.stop()
