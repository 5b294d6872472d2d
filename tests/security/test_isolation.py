"""Resource isolation: one dead destination, one greedy account and one hostile client cost the others nothing."""

import asyncio
from pathlib import Path

import pytest
from tests.security.live import Recorder, changed, host, until

from waypost.config.settings import ListenerProtocol, Route

LETTER = b"From: %s\r\nSubject: tea\r\n\r\nhi\r\n.\r\n"


async def test_a_destination_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    """It takes connections and never says a word; more of its mail waits than there are connections for it."""
    silent: list[asyncio.StreamWriter] = []

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.append(writer)

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    dead = server.sockets[0].getsockname()[1]
    async with Recorder("PIPELINING").open() as there:
        routes = (
            Route(("dead.test",), "[127.0.0.1]", port=dead),
            Route(("there.test",), "[127.0.0.1]", port=there.port),
        )
        live = changed(host(tmp_path, "here.test"), routes=routes, queue={"expire": 600_000_000})
        async with changed(live, outbound={"max_connections": 6, "max_connections_per_destination": 3}) as here:
            await here.account("alice@here.test")
            alice = await here.submitter("alice@here.test")
            for recipient in ["x@dead.test"] * 12 + ["bob@there.test"] * 3:
                await alice.say("MAIL FROM:<alice@here.test>", f"RCPT TO:<{recipient}>")
                assert (await alice.content(LETTER % b"alice@here.test")).startswith("250")
            await until(lambda: len(there.contents) == 3)
            # The queue hears of the three a moment after the other server had them.
            await until(here.queued, lambda waiting: {entry.destination for entry in waiting} == {"dead.test"})
            assert len(await here.queued()) == 12
            await alice.close()
            for writer in silent:
                writer.close()
    server.close()


async def test_an_account_that_has_spent_its_budget_spends_nobody_elses(tmp_path: Path) -> None:
    limited = changed(host(tmp_path, "here.test"), submission={"messages_per_hour": 2, "recipients_per_hour": 50})
    async with limited as here:
        for user in ("alice@here.test", "bob@here.test"):
            await here.account(user)
        alice, bob = await here.submitter("alice@here.test"), await here.submitter("bob@here.test")
        replies = []
        for wire, user in ((alice, b"alice@here.test"),) * 4 + ((bob, b"bob@here.test"),):
            await wire.say(f"MAIL FROM:<{user.decode()}>", "RCPT TO:<bob@here.test>")
            replies.append((await wire.content(LETTER % user))[:3])
        assert replies[:2] == ["250", "250"] and replies[4] == "250"
        assert all(reply[0] in "45" for reply in replies[2:4])
        assert len(await here.inbox("bob@here.test")) == 3
        await alice.close()
        await bob.close()


async def test_a_network_that_takes_all_its_places_takes_nobody_elses(tmp_path: Path) -> None:
    """Clients come from 127.0.0.1, and the good one from 127.0.0.2."""
    limits = {"connections_per_network": 5, "exempt_networks": ()}
    async with changed(host(tmp_path, "here.test"), limits=limits) as here:
        hostile = [await here.client() for _ in range(8)]
        greetings = [(await wire.line())[:3] for wire in hostile]
        assert greetings == ["220"] * 5 + ["421"] * 3
        good = await here.client(source="127.0.0.2")
        assert (await good.line()).startswith("220")
        await good.close()
        for wire in hostile:
            await wire.close()
        await here.assembly.listening.connections.gone()


async def test_a_client_that_never_reads_holds_no_memory_but_its_own_few_replies(tmp_path: Path) -> None:
    async with host(tmp_path, "here.test") as here:
        greedy = await here.client()
        await greedy.line()
        transport = greedy.writer.transport
        transport.pause_reading()
        [connection] = here.assembly.listening.connections._open
        most = 0
        for _ in range(200):  # twelve megabytes of commands; the answer to each is ten times as long
            greedy.writer.write(b"HELP\r\n" * 10_000)
            await asyncio.sleep(0)
            most = max(most, connection._transport.get_write_buffer_size())
            if transport.get_write_buffer_size() > 1 << 20:  # the server takes no more
                break
        assert transport.get_write_buffer_size() > 1 << 20
        assert most < 1 << 17
        polite = await here.client()
        assert (await polite.line()).startswith("220")


FAILING = [
    b"",
    b"EHLO x\r\n",
    b"EHLO x\r\nSTARTTLS\r\nthis is no handshake\r\n",
    b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\nSubject: half",
    b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@here.test>\r\nBDAT 100\r\nx",
    b"\0\0\0\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"QUIT\r\n",
    b"A" * 100_000,
]


@pytest.mark.parametrize("protocol", [ListenerProtocol.SMTP, ListenerProtocol.SUBMISSIONS, ListenerProtocol.POP3])
async def test_every_way_to_fail_gives_its_place_back(tmp_path: Path, protocol: ListenerProtocol) -> None:
    limits = {"connections_per_network": 20, "exempt_networks": (), "connection_rate_per_network": 100_000}
    async with changed(host(tmp_path, "here.test"), limits=limits) as here:
        await here.account("alice@here.test")
        house = here.assembly.listening
        for number in range(60):
            writer = (await here.client(protocol)).writer
            writer.write(FAILING[number % len(FAILING)])
            if number % 3 == 0:
                writer.transport.abort()
            elif number % 3 == 1:
                writer.write_eof()
            else:
                writer.close()
            await asyncio.sleep(0)
        await asyncio.wait_for(house.connections.gone(), 30)
        await until(lambda: house.admission.open == 0)
        assert all(network.open == 0 for network in house.admission._networks.values())
        assert await here.inbox("alice@here.test") == []
