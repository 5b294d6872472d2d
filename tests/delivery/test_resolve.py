"""Where addresses of ours lead: accounts, aliases, groups, subaddresses, catch-alls, and who is always reached."""

import asyncio

from tests.intake.conversation import House

from waypost.config.settings import Settings
from waypost.delivery.resolve import LOCAL_DESTINATION, AddressBook, Resolution
from waypost.message.address import Address

A = Address.parse


def book(house: House, *, separator: str = "+", postmaster: str | None = None, routed: str = "") -> AddressBook:
    settings: Settings = house.settings
    return AddressBook(
        house.storage.directory,
        hostname=settings.hostname,
        hosted=settings.domains,
        routed=[routed] if routed else [],
        separator=separator,
        postmaster=postmaster,
    )


async def leads(house: House, address: str, **options: str) -> list[str]:
    """Return the accounts and the addresses elsewhere that an address leads to."""
    found = await book(house, **options).resolve(A(address))
    return [account.address for account in found.accounts] + [str(target) for target in found.forwards]


async def test_an_account_is_reached_in_any_case_of_letters(house: House) -> None:
    assert await leads(house, "BOB@Here.TEST") == ["bob@here.test"]
    assert await leads(house, "nobody@here.test") == []


async def test_an_internationalised_domain_is_ours_in_every_form(house: House) -> None:
    await house.account("carol@xn--exmple-cua.test")
    for domain in ("exämple.test", "EXÄMPLE.test", "xn--exmple-cua.test", "XN--EXMPLE-CUA.TEST"):
        assert await leads(house, f"carol@{domain}") == ["carol@xn--exmple-cua.test"]


async def test_a_subaddress_reaches_its_owner_unless_it_has_a_name_of_its_own(house: House) -> None:
    await house.alias("bob+news@here.test", "alice@here.test")
    assert await leads(house, "bob+shop@here.test") == ["bob@here.test"]
    assert await leads(house, "bob+news@here.test") == ["alice@here.test"]
    assert await leads(house, "+shop@here.test") == []
    assert await leads(house, "bob-shop@here.test", separator="-") == ["bob@here.test"]
    assert await leads(house, "bob+shop@here.test", separator="") == []


async def test_an_alias_leads_on_through_others_and_out_of_the_house(house: House) -> None:
    await house.alias("sales@here.test", "team@here.test")
    await house.alias("team@here.test", "bob@here.test", "x@there.test")
    assert await leads(house, "sales@here.test") == ["bob@here.test", "x@there.test"]
    found = await book(house).resolve(A("sales@here.test"))
    assert found.expanded and found.group


async def test_alias_cycles_end(house: House) -> None:
    await house.alias("a@here.test", "b@here.test")
    await house.alias("b@here.test", "a@here.test", "a@here.test")
    assert await leads(house, "a@here.test") == []
    await house.alias("b@here.test", "a@here.test", "bob@here.test")
    assert await leads(house, "a@here.test") == ["bob@here.test"]


async def test_a_long_chain_of_aliases_and_a_large_group_lose_nobody(house: House) -> None:
    for number in range(1200):
        await house.alias(f"a{number}@here.test", f"a{number + 1}@here.test")
    await house.alias("a1200@here.test", "bob@here.test")
    assert await leads(house, "a0@here.test") == ["bob@here.test"]
    await house.alias("all@here.test", *(f"x{number}@there.test" for number in range(2000)))
    assert len(await leads(house, "all@here.test")) == 2000


async def test_a_large_group_lets_others_work_in_between(house: House) -> None:
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await house.alias("all@here.test", *(f"x{number}@there.test" for number in range(1000)))
    working = asyncio.create_task(work())
    assert len(await leads(house, "all@here.test")) == 1000
    working.cancel()
    assert turns >= 1000 // 50


async def test_a_member_of_several_groups_is_reached_once(house: House) -> None:
    await house.alias("one@here.test", "bob@here.test", "x@there.test")
    await house.alias("two@here.test", "bob@here.test", "one@here.test", "x@there.test")
    assert await leads(house, "two@here.test") == ["bob@here.test", "x@there.test"]


async def test_a_catch_all_takes_what_nobody_else_does(house: House) -> None:
    await house.alias("@here.test", "alice@here.test")
    assert await leads(house, "whoever@here.test") == ["alice@here.test"]
    assert await leads(house, "bob@here.test") == ["bob@here.test"]


async def test_a_local_part_that_reads_like_a_route_leads_to_its_own_name_or_nowhere(house: House) -> None:
    await house.alias("@here.test", "alice@here.test")
    for local in ("x%there.test", "there.test!x", '"x@there.test"'):
        assert await leads(house, f"{local}@here.test") == []
        assert await leads(house, f"{local}@here.test", routed="here.test") == []
    await house.alias("50%off@here.test", "bob@here.test")
    assert await leads(house, "50%off@here.test") == ["bob@here.test"]


async def test_disabled_and_full_accounts_are_told_apart_from_nobody(house: House) -> None:
    await house.storage.directory.set_disabled("bob@here.test", True)
    await house.account("carol@here.test", quota=1000)
    found = await book(house).resolve(A("bob@here.test"))
    assert found == Resolution(disabled=("bob@here.test",)) and not found.somebody
    assert (await book(house).resolve(A("carol@here.test"), 1000)).somebody
    assert (await book(house).resolve(A("carol@here.test"), 1001)).full == ("carol@here.test",)


async def test_room_is_asked_for_again_with_the_real_size(house: House) -> None:
    await house.account("carol@here.test", quota=1000)
    await house.alias("both@here.test", "carol@here.test", "bob@here.test")
    carol = await book(house).resolve(A("carol@here.test"))
    assert carol.has_room(1000) and not carol.has_room(1001)
    assert (await book(house).resolve(A("both@here.test"))).has_room(1001)


async def test_postmaster_and_abuse_are_always_reached(house: House) -> None:
    for address in ("postmaster@here.test", "Abuse@here.test", "postmaster@mx.here.test"):
        assert await leads(house, address) == ["alice@here.test"], "the first account of the domain, or of all"
    assert await leads(house, "postmaster@here.test", postmaster="bob@here.test") == ["bob@here.test"]
    assert await leads(house, "postmaster@here.test", postmaster="gone@here.test") == ["alice@here.test"]
    found = await book(house).resolve(Address("Postmaster", ""))
    assert [account.address for account in found.accounts] == ["alice@here.test"]
    assert await leads(house, "info@mx.here.test") == ["info@mx.here.test"], (
        "our own name is an address elsewhere for all others"
    )


async def test_postmaster_is_reached_whatever_the_quota(house: House) -> None:
    await house.storage.directory.set_quota("alice@here.test", 1)
    found = await book(house).resolve(A("postmaster@here.test"), 5000)
    assert found.somebody and found.has_room(5000)


async def test_who_hears_postmaster_changes_when_the_account_is_closed(house: House) -> None:
    addresses = book(house)
    postmaster = A("postmaster@here.test")
    assert (await addresses.resolve(postmaster)).accounts[0].address == "alice@here.test"
    await house.storage.directory.set_disabled("alice@here.test", True)
    assert (await addresses.resolve(postmaster)).accounts[0].address == "bob@here.test"
    await house.storage.directory.set_disabled("bob@here.test", True)
    assert not (await addresses.resolve(postmaster)).somebody


async def test_a_catch_all_hears_postmaster_unless_somebody_else_is_named(house: House) -> None:
    await house.alias("@here.test", "bob@here.test")
    assert await leads(house, "postmaster@here.test") == ["bob@here.test"]
    assert await leads(house, "postmaster@here.test", postmaster="alice@here.test") == ["alice@here.test"]
    await house.alias("postmaster@here.test", "x@there.test")
    assert await leads(house, "postmaster@here.test", postmaster="alice@here.test") == ["x@there.test"]


async def test_a_route_takes_who_is_unknown_here(house: House) -> None:
    assert await leads(house, "bob@here.test", routed="here.test") == ["bob@here.test"]
    assert await leads(house, "Gone@here.test", routed="here.test") == ["Gone@here.test"]
    await house.alias("old@here.test", "gone@here.test")
    assert await leads(house, "old@here.test", routed="here.test") == ["gone@here.test"], "under its new name"
    assert await leads(house, "postmaster@here.test", routed="here.test") == ["alice@here.test"]
    await house.storage.directory.set_disabled("bob@here.test", True)
    assert await leads(house, "bob@here.test", routed="here.test") == [], "closed here is not unknown here"


def test_destinations_are_local_or_domains(house: House) -> None:
    addresses = book(house, routed="here.test")
    assert addresses.destination(A("Bob@HERE.test")) == LOCAL_DESTINATION
    assert addresses.destination(Address("postmaster", "")) == LOCAL_DESTINATION
    assert addresses.destination(A("x@Exämple.org")) == "xn--exmple-cua.org"
    assert addresses.destination(A("x@[192.0.2.1]")) == "[192.0.2.1]"


async def test_who_may_send_as_whom(house: House) -> None:
    directory, addresses = house.storage.directory, book(house)
    alice, bob = await directory.account("alice@here.test"), await directory.account("bob@here.test")
    assert alice and bob
    await house.alias("sales@here.test", "alice@here.test", "x@there.test")
    await house.alias("@xn--exmple-cua.test", "bob@here.test")

    async def may(*texts: str) -> list[bool]:
        return [await addresses.may_send_as(alice, A(text)) for text in texts]

    assert await may("alice@here.test", "ALICE@here.TEST", "alice+x@here.test", "sales@here.test") == [True] * 4
    assert await may("bob@here.test", "x@there.test", "alice@there.test", "alice@mx.here.test") == [False] * 4
    assert not await addresses.may_send_as(bob, A("whoever@exämple.test")), "a catch-all makes no owner"
    assert not await addresses.may_send_as(bob, A('""@exämple.test')), "an empty local part is not a catch-all"
    assert await addresses.may_send_as(alice, A("postmaster@here.test")), "who hears it may answer"
    assert not await addresses.may_send_as(bob, A("postmaster@here.test"))


async def test_a_full_mailbox_still_sends_as_its_aliases(house: House) -> None:
    await house.alias("sales@here.test", "carol@here.test")
    carol = await house.account("carol@here.test", quota=1)
    await (await house.reception()).message("x@there.test", "carol@here.test")
    assert await book(house).may_send_as(carol, A("sales@here.test"))
