"""Open-relay tricks: whatever form an address has, nothing is relayed for strangers."""

import dataclasses

import pytest
from msgspec.structs import replace
from tests.intake.conversation import CLIENT, TLS, Conversation, House

from waypost.config.settings import ListenerProtocol, Route
from waypost.login.desk import LoginDesk

REFUSED_AS_RELAY = [
    "<user@other.test>",
    "<user@other.test.>",
    "user@other.test",
    "user@other.test.",
    "<@here.test:user@other.test>",
    "<@here.test,@mx.here.test:user@other.test>",
    "<user@sub.here.test>",
    "<user@here.test.other.test>",
    "<user@mx.here.test>",
    "<user@localhost>",
    "<user@[192.0.2.55]>",
    "<user@[198.51.100.1]>",
    "<abuse@[198.51.100.1]>",
    "<user@[IPv6:2001:db8::1]>",
    "<user@[IPv6:::ffff:198.51.100.1]>",
    "<user@xn--here-0qa.test>",
    "<user@here-test>",
]
ROUTES_INSIDE = [
    "<user%other.test@here.test>",
    "<user%other.test%more.test@here.test>",
    "<other.test!user@here.test>",
    '<"user@other.test"@here.test>',
    '<"user%other.test"@here.test>',
    '<"@other.test:user"@here.test>',
    '<"user@other.test,bob"@here.test>',
    "<@here.test:user%other.test@here.test>",
]
UNKNOWN = ["<bob/other.test@here.test>", '<""@here.test>', "<*@here.test>", "<nobody@here.test>"]
REFUSED_AS_SYNTAX = [
    "<user@other.test@here.test>",
    "<bob@.here.test>",
    "<user@[here.test]>",
    "<user@[198.51.100.1>",
    "<user@[IPv4:198.51.100.1]>",
    "<user@198.51.100.1 here.test>",
    "<user @other.test>",
    "<user@other.test\t>",
    "<@here.test:>",
    "<@here.test>",
    "<here.test>",
    "<user>",
    "<>",
    '<"bob@here.test>',
    "<user@other.test>,<bob@here.test>",
    "<user@other.test><bob@here.test>",
]


@pytest.mark.parametrize("path", REFUSED_AS_RELAY)
async def test_domains_of_others_are_refused_in_every_form(house: House, path: str) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test> SMTPUTF8")
    assert (await talk.say(f"RCPT TO:{path}")).startswith("550 5.7.1 Relaying denied")


@pytest.mark.parametrize("path", ROUTES_INSIDE + UNKNOWN)
@pytest.mark.parametrize("sender", ["x@there.test", "alice@here.test", ""])
async def test_a_route_inside_of_a_local_part_leads_nowhere(house: House, path: str, sender: str) -> None:
    talk = await house.reception()
    await talk.say(f"MAIL FROM:<{sender}>")
    assert (await talk.say(f"RCPT TO:{path}")).startswith("550 5.1.1")


@pytest.mark.parametrize("path", REFUSED_AS_SYNTAX)
async def test_what_is_no_address_is_refused(house: House, path: str) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>")
    assert (await talk.say(f"RCPT TO:{path}"))[:4] in ("501 ", "555 ")
    assert (await talk.say("DATA")).startswith("554 5.5.1")


@pytest.mark.parametrize("path", ROUTES_INSIDE)
async def test_neither_a_catch_all_nor_a_route_follows_a_route_inside_of_a_local_part(house: House, path: str) -> None:
    await house.alias("@here.test", "gate@inside.test")
    house.settings = dataclasses.replace(house.settings, routes=(Route(("here.test",), "inside.test"),))
    for talk in (await house.reception(), await house.lmtp()):
        await talk.say("MAIL FROM:<x@there.test>")
        assert (await talk.say(f"RCPT TO:{path}")).startswith("550 5.1.1")


ALIKE = [
    *(
        "user＠other.test",
        "user﹫other.test",
        "user％other.test",
        "user﹪other.test",
        "user٪other.test",
        "user‰other.test",
    ),
    *("other.test！user", "other.test﹗user", "other.testǃuser", "other.test‼user", "other.test⁈user", "ü%other.test"),
    *("user＠other。test", "＠other.test", "user＠", "＠", "ｕser％other"),
]


@pytest.mark.parametrize("local", ALIKE)
async def test_letters_that_look_like_a_route_lead_nowhere_either(house: House, local: str) -> None:
    await house.alias("@here.test", "gate@inside.test")
    house.settings = dataclasses.replace(house.settings, routes=(Route(("here.test",), "inside.test"),))
    for talk in (await house.reception(), await house.lmtp(), await house.submission("alice@here.test")):
        await talk.say("MAIL FROM:<alice@here.test> SMTPUTF8")
        for path in (f"<{local}@here.test>", f'<"{local}"@here.test>', f"<@other.test:{local}@here.test>"):
            assert (await talk.say(f"RCPT TO:{path}")).startswith("550 5.1.1")
        assert (await talk.say("RCPT TO:<jürgen@here.test>")).startswith("250"), "the catch-all has other letters"


async def test_a_mailbox_of_exactly_such_a_name_has_its_mail(house: House) -> None:
    await house.account("user％other.test@here.test")
    talk = await house.reception()
    assert (await talk.message("x@there.test", "user％other.test@here.test", parameters="SMTPUTF8")).startswith("250")


async def test_a_source_route_to_ourselves_is_forgotten(house: House) -> None:
    talk = await house.reception()
    assert (await talk.message("x@there.test", "@other.test,@here.test:bob@here.test")).startswith("250")
    assert len(await house.inbox("bob@here.test")) == 1


@pytest.mark.parametrize("domain", ["here.test", "HERE.TEST", "Here.Test"])
async def test_our_domain_is_ours_in_any_case_of_letters(house: House, domain: str) -> None:
    talk = await house.reception()
    assert (await talk.message("x@there.test", f"Bob@{domain}")).startswith("250")


@pytest.mark.parametrize("domain", ["exämple.test", "EXÄMPLE.test", "xn--exmple-cua.test", "XN--EXMPLE-CUA.test"])
async def test_our_internationalised_domain_is_ours_in_every_form(house: House, domain: str) -> None:
    await house.account("carol@xn--exmple-cua.test")
    talk = await house.reception()
    assert (await talk.message("x@there.test", f"carol@{domain}", parameters="SMTPUTF8")).startswith("250")


@pytest.mark.parametrize(
    "domain",
    [
        "h\u0435re.test",  # a Cyrillic letter
        "hėre.test",
        "here.tеst",
        "exаmple.test",
        "examplе.test",
        "exämple.test.here",
        "xn--exmple-cub.test",
        "example.test",
    ],
)
async def test_domains_that_look_like_ours_are_not(house: House, domain: str) -> None:
    await house.alias("@here.test", "bob@here.test")
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test> SMTPUTF8")
    assert (await talk.say(f"RCPT TO:<bob@{domain}>"))[:9] in ("550 5.7.1", "501 5.1.3")


async def test_our_own_address_literal_reaches_postmaster_only(house: House) -> None:
    talk = await house.reception()
    assert (await talk.message("x@there.test", "Postmaster@[198.51.100.1]")).startswith("250")
    assert len(await house.inbox("alice@here.test")) == 1
    await talk.say("MAIL FROM:<x@there.test>")
    for path in ("bob@[198.51.100.1]", "postmaster@[198.51.100.2]", "postmaster@[IPv6:2001:db8::1]"):
        assert (await talk.say(f"RCPT TO:<{path}>")).startswith("550 5.7.1")


async def test_our_own_address_literal_may_be_ipv6(house: House) -> None:
    talk = Conversation(house.session(ListenerProtocol.SMTP), replace(CLIENT, local_address="2001:db8::1"))
    await talk.open()
    await talk.say("EHLO x", "MAIL FROM:<x@there.test>")
    assert (await talk.say("RCPT TO:<postmaster@[IPv6:2001:DB8:0::1]>")).startswith("250")
    assert (await talk.say("RCPT TO:<postmaster@[198.51.100.1]>")).startswith("550")


@pytest.mark.parametrize(
    "line",
    ["AUTH PLAIN", "AUTH PLAIN =", "AUTH PLAIN AAAA", "AUTH", "AUTH LOGIN", "AUTH EXTERNAL =", "AUTH ANONYMOUS ="],
)
async def test_there_is_no_login_on_port_25_and_none_opens_a_relay(house: House, line: str) -> None:
    talk = await house.reception()
    assert "AUTH" not in await talk.send(b"EHLO x\r\n")
    assert (await talk.say(line)).startswith("502")
    await talk.say("MAIL FROM:<alice@here.test>")
    assert (await talk.say("RCPT TO:<user@other.test>")).startswith("550 5.7.1")


@pytest.mark.parametrize("initial", ["=", "AAAA", "AAA=", "AGFsaWNlQGhlcmUudGVzdAA=", "AABhbGljZQ=="])
async def test_an_empty_login_is_none(house: House, initial: str) -> None:
    desk = LoginDesk(house.storage.directory, now=house.clock, sleep=house.clock.sleep)
    house.desk = desk  # type: ignore[assignment]
    talk = Conversation(house.session(ListenerProtocol.SUBMISSIONS), replace(CLIENT, tls=TLS))
    await talk.open()
    await talk.say("EHLO x")
    assert (await talk.say(f"AUTH PLAIN {initial}"))[:9] in ("535 5.7.8", "501 5.5.2")
    assert (await talk.say("AUTH PLAIN")) == "334 "
    assert (await talk.say(""))[:3] in ("535", "501", "454")
    assert (await talk.say("MAIL FROM:<alice@here.test>")).startswith("530")
    desk.close()


@pytest.mark.parametrize(
    "line",
    [
        "XCLIENT ADDR=127.0.0.1 LOGIN=alice@here.test",
        "XFORWARD ADDR=127.0.0.1",
        "PROXY TCP4 127.0.0.1 127.0.0.1 1 25",
        "XEXCH50 1 2",
        "TURN",
        "ETRN other.test",
        "ATRN",
        "SEND FROM:<x@there.test>",
        "SAML FROM:<x@there.test>",
    ],
)
async def test_no_other_command_makes_somebody_trusted(house: House, line: str) -> None:
    talk = await house.reception()
    assert (await talk.say(line)).startswith("500 5.5.1")
    await talk.say("MAIL FROM:<alice@here.test> AUTH=alice@here.test")
    assert (await talk.say("RCPT TO:<user@other.test>")).startswith("550 5.7.1")


async def test_a_helo_of_ours_or_a_sender_of_ours_opens_nothing(house: House) -> None:
    talk = Conversation(house.session(ListenerProtocol.SMTP), replace(CLIENT, address="127.0.0.1"))
    await talk.open()
    await talk.say("EHLO mx.here.test", "MAIL FROM:<postmaster@here.test>")
    assert (await talk.say("RCPT TO:<user@other.test>")).startswith("550 5.7.1")


async def test_lmtp_relays_for_nobody_either(house: House) -> None:
    talk = await house.lmtp()
    await talk.say("MAIL FROM:<alice@here.test>")
    assert (await talk.say("RCPT TO:<user@other.test>")).startswith("550 5.7.1")
