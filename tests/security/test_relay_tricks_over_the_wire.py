"""Open-relay tricks over a real socket: nothing leaves for strangers, even where a route would take it."""

from pathlib import Path

from tests.reception.test_relay_tricks import REFUSED_AS_RELAY, REFUSED_AS_SYNTAX, ROUTES_INSIDE, UNKNOWN
from tests.security.live import Recorder, host

from waypost.config.settings import ListenerProtocol

TRUSTED = ["XCLIENT ADDR=127.0.0.1 LOGIN=alice@here.test", "PROXY TCP4 127.0.0.1 127.0.0.1 1 25", "AUTH PLAIN ="]


async def test_nothing_is_relayed_for_strangers_whatever_they_write(tmp_path: Path) -> None:
    async with (
        Recorder().open() as there,
        host(tmp_path, "here.test", next_hop=("other.test", there.port)) as here,
    ):
        await here.account("alice@here.test")
        await here.alias("@here.test", "alice@here.test")
        for protocol in (ListenerProtocol.SMTP, ListenerProtocol.LMTP):
            lmtp = protocol is ListenerProtocol.LMTP
            hello, refusal = ("LHLO x.test", "503 5.5.1") if lmtp else ("EHLO x.test", "554 5.5.1")  # RFC 2033 4.2
            for path in (*REFUSED_AS_RELAY, *ROUTES_INSIDE, *REFUSED_AS_SYNTAX):
                wire = await here.client(protocol)
                await wire.reply()
                await wire.say(hello, *TRUSTED, "MAIL FROM:<alice@here.test>")
                reply = await wire.say(f"RCPT TO:{path}")
                assert reply[:1] == "5", f"{path}: {reply}"
                assert (await wire.say("DATA")).startswith(refusal), "no recipient, no content"
                await wire.close()
        assert await here.queued() == [] and there.heard == []


async def test_what_is_unknown_here_is_refused_where_nobody_takes_the_rest(tmp_path: Path) -> None:
    async with host(tmp_path, "here.test") as here:
        wire = await here.client()
        await wire.reply()
        await wire.say("EHLO x.test", "MAIL FROM:<x@far.test>")
        for path in UNKNOWN:
            assert (await wire.say(f"RCPT TO:{path}")).startswith("550 5.1.1")
        await wire.close()


async def test_a_submitter_is_oneself_and_nobody_without_a_login(tmp_path: Path) -> None:
    async with host(tmp_path, "here.test") as here:
        await here.account("alice@here.test")
        await here.account("bob@here.test")
        wire = await here.client(ListenerProtocol.SUBMISSIONS, tls=True)
        await wire.reply()
        assert (await wire.say("EHLO x.test", "MAIL FROM:<alice@here.test>")).startswith("530")
        await wire.close()
        alice = await here.submitter("alice@here.test")
        assert (await alice.say("MAIL FROM:<bob@here.test>")).startswith("553 5.7.1")
        await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<bob@here.test>")
        assert (await alice.content(b"From: bob@here.test\r\n\r\nx\r\n.\r\n")).startswith("553 5.7.1")
        await alice.close()
