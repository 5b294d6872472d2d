"""Who says little and never logs in does not keep a place; who has logged in beside him stays."""

import asyncio
from pathlib import Path

import pytest
from tests.security.live import SECOND, Wire, changed, host

from waypost.config.settings import ListenerProtocol


async def drip(wire: Wire) -> bytes:
    """Send an octet again and again, until the other side has enough; return what it said."""
    said = asyncio.create_task(wire.rest())
    while not said.done():
        try:
            await wire.send(b"X")
        except OSError:
            break
        await asyncio.wait({said}, timeout=0.02)
    return await said


@pytest.mark.parametrize("tls", [False, True])
async def test_a_drip_before_the_login_ends_and_the_others_stay(tmp_path: Path, tls: bool) -> None:
    limits = {"login_time": 2 * SECOND, "command_timeout": 2 * SECOND}
    async with changed(host(tmp_path, "here.test"), limits=limits) as here:
        await here.account("alice@here.test")
        neighbour = await here.submitter("alice@here.test")
        drips = [
            await here.client(ListenerProtocol.SUBMISSIONS if tls else ListenerProtocol.SUBMISSION, tls=tls),
            await here.client(ListenerProtocol.POP3),
        ]
        both = asyncio.gather(*map(drip, drips))
        while not both.done():
            assert (await neighbour.say("NOOP")).startswith("250")
            await asyncio.wait({both}, timeout=0.1)
        submission, pop3 = await both
        assert submission.split(b"\r\n")[-2].startswith(b"421 4.4.2")
        assert pop3.count(b"\r\n") == 1, "the greeting, and no more (RFC 1939 3)"
        await neighbour.say("MAIL FROM:<alice@here.test>", "RCPT TO:<alice@here.test>")
        assert (await neighbour.content(b"From: alice@here.test\r\n\r\nhi\r\n.\r\n")).startswith("250")


async def test_commands_without_end_are_no_login(tmp_path: Path) -> None:
    limits = {"login_time": 2 * SECOND, "command_timeout": 2 * SECOND, "errors": 1_000_000}
    async with changed(host(tmp_path, "here.test"), limits=limits) as here:
        wire = await here.client(ListenerProtocol.POP3)
        said = asyncio.create_task(wire.rest())
        while not said.done():
            try:
                await wire.send(b"CAPA\r\n")
            except OSError:
                break
            await asyncio.wait({said}, timeout=0.02)
        assert (await said).count(b"STLS") > 1
