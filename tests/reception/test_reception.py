"""Reception: who is taken, and who is refused at RCPT so that nobody is bounced later."""

from dataclasses import replace

import pytest
from tests.intake.conversation import House, trace_of

from waypost.config.settings import Reception, Route

SENDER = "x@there.test"


async def answer(house: House, recipient: str, *, parameters: str = "") -> str:
    """Return the answer to RCPT."""
    talk = await house.reception()
    await talk.say(f"MAIL FROM:<{SENDER}>{parameters}")
    return await talk.say(f"RCPT TO:<{recipient}>")


async def test_unknown_disabled_and_full_are_told_apart_at_rcpt(house: House) -> None:
    await house.account("carol@here.test", quota=1000)
    await house.storage.directory.set_disabled("bob@here.test", True)
    assert (await answer(house, "nobody@here.test")).startswith("550 5.1.1")
    assert (await answer(house, "bob@here.test")).startswith("550 5.2.1")
    assert (await answer(house, "carol@here.test", parameters=" SIZE=1001")).startswith("452 4.2.2")
    assert (await answer(house, "carol@here.test", parameters=" SIZE=1000")).startswith("250 2.1.5")


async def test_an_account_is_open_and_closed_at_once(house: House) -> None:
    talk = await house.reception()
    await talk.say(f"MAIL FROM:<{SENDER}>")
    assert (await talk.say("RCPT TO:<dave@here.test>")).startswith("550 5.1.1")
    await house.account("dave@here.test")
    assert (await talk.say("RCPT TO:<dave@here.test>")).startswith("250")
    await house.storage.directory.set_disabled("dave@here.test", True)
    assert (await talk.say("RCPT TO:<dave@here.test>")).startswith("550 5.2.1")


@pytest.mark.parametrize(
    "recipient",
    ["Postmaster", "postmaster@here.test", "ABUSE@here.test", "postmaster@mx.here.test", "abuse@xn--exmple-cua.test"],
)
async def test_postmaster_and_abuse_always_work(house: House, recipient: str) -> None:
    await house.storage.directory.set_quota("alice@here.test", 1)
    talk = await house.reception()
    assert (await talk.message(SENDER, recipient)).startswith("250")
    assert (await talk.message("", recipient)).startswith("250"), "whatever the quota, and again"
    assert len(await house.inbox("alice@here.test")) == 2


async def test_postmaster_is_who_the_settings_say(house: House) -> None:
    house.settings = replace(house.settings, reception=Reception(postmaster="bob@here.test"))
    talk = await house.reception()
    await talk.message(SENDER, "postmaster@here.test")
    assert len(await house.inbox("bob@here.test")) == 1


async def test_a_subaddress_is_delivered_to_its_owner(house: House) -> None:
    talk = await house.reception()
    assert (await talk.message(SENDER, "bob+tag@here.test")).startswith("250")
    (stored,) = await house.inbox("bob@here.test")
    assert b"Delivered-To: bob@here.test\r\n" in stored and b"for <bob+tag@here.test>" in stored


async def test_an_alias_elsewhere_forwards_with_the_reverse_path_of_the_sender(house: House) -> None:
    await house.alias("old@here.test", "new@away.test")
    talk = await house.reception()
    reply = await talk.message(SENDER, "old@here.test")
    (entry,) = await house.queued()
    assert entry.destination == "away.test" and entry.trace == trace_of(reply)
    assert str(entry.envelope.reverse_path) == SENDER
    assert entry.recipients[0].original and entry.recipients[0].original.address == "old@here.test"


async def test_a_group_reaches_all_of_its_members_with_one_copy(house: House) -> None:
    await house.alias("all@here.test", "alice@here.test", "bob@here.test", "x@away.test")
    talk = await house.reception()
    reply = await talk.message(SENDER, "all@here.test")
    assert len(await house.inbox("alice@here.test")) == len(await house.inbox("bob@here.test")) == 1
    assert len(await house.queued()) == 1 and await house.stored(trace_of(reply))


async def test_aliases_that_lead_to_nobody_are_refused(house: House) -> None:
    await house.alias("a@here.test", "b@here.test")
    await house.alias("b@here.test", "a@here.test")
    await house.alias("c@here.test", "gone@here.test")
    for alias in ("a", "b", "c"):
        assert (await answer(house, f"{alias}@here.test")).startswith("550 5.1.1")


async def test_a_catch_all_takes_the_rest_of_its_domain(house: House) -> None:
    await house.alias("@here.test", "bob@here.test")
    talk = await house.reception()
    assert (await talk.message(SENDER, "whoever@here.test")).startswith("250")
    assert len(await house.inbox("bob@here.test")) == 1


async def test_a_domain_may_be_hosted_partly_elsewhere(house: House) -> None:
    house.settings = replace(house.settings, routes=(Route(("here.test",), "[192.0.2.9]"),))
    talk = await house.reception()
    assert (await talk.message(SENDER, "bob@here.test", "carol@here.test")).startswith("250")
    assert len(await house.inbox("bob@here.test")) == 1
    (entry,) = await house.queued()
    assert entry.destination == "here.test" and str(entry.recipients[0].address) == "carol@here.test"


async def test_the_null_reverse_path_and_any_other_may_write_to_us(house: House) -> None:
    talk = await house.reception()
    for sender in ("", "x@there.test", "bob@here.test", "x@[192.0.2.7]"):
        assert (await talk.message(sender, "bob@here.test")).startswith("250")


async def test_a_message_in_transit_is_not_mended(house: House) -> None:
    talk = await house.reception()
    content = b"Bcc: z@there.test\r\nFrom: a\r\nFrom: b\r\nno field\r\nSubject: caf\xe9\r\n\r\nhello\r\n"
    assert (await talk.message(SENDER, "bob@here.test", content=content)).startswith("250")
    assert (await house.inbox("bob@here.test"))[0].endswith(b"+0000\r\n" + content)


RESULTS = (
    ("Authentication-Results: mx.here.test; dkim=pass", False),
    ("AUTHENTICATION-RESULTS:\r\n (so they say) MX.Here.Test./1; spf=pass", False),
    ('Authentication-Results: "here.test" 1; none', False),
    ("Authentication-Results: filter.here.test; dkim=pass", False),
    ("Authentication-Results:", False),
    ("Authentication-Results: mx.there.test; dkim=pass header.d=here.test", True),
    ("Authentication-Results: nothere.test; dkim=pass", True),
    ("ARC-Authentication-Results: i=1; mx.here.test; dkim=pass", True),
    ("Received-SPF: pass", True),
)


async def test_nobody_outside_tells_of_checks_in_our_name(house: House) -> None:
    """RFC 8601 5: what claims to have been added here, and did not come from a server of ours, is deleted."""
    content = (
        "".join(f"{field}\r\n" for field, _ in RESULTS) + "Subject: x\r\n\r\nAuthentication-Results: here.test\r\n"
    )
    talk = await house.reception()
    assert (await talk.message(SENDER, "bob@here.test", content=content)).startswith("250")
    kept = "".join(f"{field}\r\n" for field, stays in RESULTS if stays)
    body = "Subject: x\r\n\r\nAuthentication-Results: here.test\r\n"
    assert (await house.inbox("bob@here.test"))[0].endswith(b"+0000\r\n" + (kept + body).encode())


async def test_a_server_of_the_house_tells_by_lmtp_what_it_has_checked(house: House) -> None:
    content = "".join(f"{field}\r\n" for field, _ in RESULTS) + "Subject: x\r\n\r\n"
    talk = await house.lmtp()
    assert (await talk.message(SENDER, "bob@here.test", content=content)).startswith("250")
    assert (await house.inbox("bob@here.test"))[0].endswith(b"+0000\r\n" + content.encode())


async def test_what_submission_offers_is_not_offered_here(house: House) -> None:
    talk = await house.reception()
    listed = await talk.send(b"EHLO x\r\n")
    assert not {"FUTURERELEASE", "MT-PRIORITY", "AUTH"} & set(listed.replace("-", " ").split())
    for parameter in ("HOLDFOR=60", "MT-PRIORITY=9"):
        assert (await talk.say(f"MAIL FROM:<{SENDER}> {parameter}")).startswith("555 5.5.4")


async def test_a_deadline_is_kept_by_delivering_at_once_and_promised_for_nobody_elsewhere(house: House) -> None:
    await house.alias("old@here.test", "new@away.test")
    await house.alias("both@here.test", "bob@here.test", "new@away.test")
    talk = await house.reception()
    await talk.say(f"MAIL FROM:<{SENDER}> BY=1;R")
    for recipient in ("old@here.test", "both@here.test"):
        assert (await talk.say(f"RCPT TO:<{recipient}>")).startswith("554 5.4.7")
    assert (await talk.say("RCPT TO:<bob@here.test>")).startswith("250")
    await talk.say("DATA")
    assert (await talk.say("Subject: in time\r\n\r\n.")).startswith("250")
    assert len(await house.inbox("bob@here.test")) == 1
    await talk.say(f"MAIL FROM:<{SENDER}> BY=-1;N")
    assert (await talk.say("RCPT TO:<old@here.test>")).startswith("250")
    await talk.say("DATA")
    assert (await talk.say("Subject: whenever\r\n\r\n.")).startswith("250")
    (entry,) = await house.queued()
    assert entry.envelope.deliver_by is None, "nobody is told of a delay that a stranger made up"
