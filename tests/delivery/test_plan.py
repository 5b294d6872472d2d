"""What the recipients of a message mean for storage (RFC 3461 5.2.7, RFC 4865)."""

from msgspec.structs import replace
from tests.intake.conversation import NOW, House

from waypost.delivery.plan import LOCAL_DESTINATION, DeliveryPlan, Planner
from waypost.delivery.resolve import Resolution
from waypost.message.address import Address
from waypost.message.envelope import Envelope, Notify, OriginalRecipient, Recipient
from waypost.storage import Account, Credentials

A = Address.parse
ENVELOPE = Envelope(A("sender@there.test"))


def account(number: int, address: str) -> Account:
    return Account(number, address, Credentials("-", b"", 1, b"", b""), 0, False, NOW, number + 100, 0)


BOB, CAROL = account(1, "bob@here.test"), account(2, "carol@here.test")
QUEEN = account(3, "red queen@here.test")


def arrange(house: House, *pairs: tuple[Recipient, Resolution | None], envelope: Envelope = ENVELOPE) -> DeliveryPlan:
    return Planner(house.book()).arrange(pairs, envelope, NOW)


def waiting(plan: DeliveryPlan) -> dict[str, list[str]]:
    return {entry.destination: [str(one.address) for one in entry.recipients] for entry in plan.entries}


def test_mailboxes_get_the_message_with_its_heads_and_others_wait_by_destination(house: House) -> None:
    plan = arrange(
        house,
        (Recipient(A("bob@here.test")), Resolution((BOB,))),
        (Recipient(A("x@there.test")), None),
        (Recipient(A("y@THERE.test")), None),
        (Recipient(A("z@[192.0.2.1]")), None),
    )
    assert [(one.mailbox, one.head) for one in plan.deliveries] == [
        (101, b"Return-Path: <sender@there.test>\r\nDelivered-To: bob@here.test\r\n")
    ]
    assert waiting(plan) == {"there.test": ["x@there.test", "y@THERE.test"], "[192.0.2.1]": ["z@[192.0.2.1]"]}
    assert all(entry.next_attempt == NOW for entry in plan.entries)


def test_the_null_reverse_path_is_an_empty_return_path(house: House) -> None:
    plan = arrange(house, (Recipient(A("bob@here.test")), Resolution((BOB,))), envelope=Envelope(None))
    assert plan.deliveries[0].head.startswith(b"Return-Path: <>\r\n")


def test_a_mailbox_that_is_reached_twice_gets_one_copy(house: House) -> None:
    pairs = [(Recipient(A(name)), Resolution((BOB,), expanded=True)) for name in ("one@here.test", "two@here.test")]
    plan = arrange(house, *pairs)
    assert len(plan.deliveries) == 1
    assert [str(recipient.address) for recipient, _ in plan.delivered] == ["one@here.test", "two@here.test"]


def test_an_address_elsewhere_that_is_reached_twice_waits_once(house: House) -> None:
    target = A("x@there.test")
    plan = arrange(
        house, (Recipient(A("one@here.test")), Resolution(forwards=(target,), expanded=True)), (Recipient(target), None)
    )
    assert waiting(plan) == {"there.test": ["x@there.test"]}


def test_a_recipient_whom_a_route_takes_waits_under_the_domain_itself(house: House) -> None:
    unknown = A("gone@here.test")
    plan = arrange(house, (Recipient(unknown), Resolution(forwards=(unknown,))))
    assert waiting(plan) == {"here.test": ["gone@here.test"]}
    assert plan.entries[0].recipients[0].original is None, "it was not renamed"


def test_held_mail_waits_for_everybody_until_its_time(house: House) -> None:
    envelope = replace(ENVELOPE, hold_until=NOW + 60_000_000, priority=3)
    plan = arrange(
        house,
        (Recipient(A("bob@here.test")), Resolution((BOB,))),
        (Recipient(A("x@there.test")), None),
        envelope=envelope,
    )
    assert plan.deliveries == () and plan.delivered == ()
    assert waiting(plan) == {LOCAL_DESTINATION: ["bob@here.test"], "there.test": ["x@there.test"]}
    assert {(entry.next_attempt, entry.priority) for entry in plan.entries} == {(NOW + 60_000_000, 3)}


def test_mail_whose_time_has_come_is_not_held(house: House) -> None:
    plan = arrange(
        house, (Recipient(A("bob@here.test")), Resolution((BOB,))), envelope=replace(ENVELOPE, hold_until=NOW)
    )
    assert len(plan.deliveries) == 1 and plan.entries == ()


def test_members_of_a_group_who_have_no_room_wait_while_the_others_get_it(house: House) -> None:
    plan = arrange(house, (Recipient(A("all@here.test")), Resolution((BOB,), full=("carol@here.test",), expanded=True)))
    assert len(plan.deliveries) == 1 and waiting(plan) == {LOCAL_DESTINATION: ["carol@here.test"]}


def test_a_name_that_needs_quotes_is_written_with_them(house: House) -> None:
    group = Recipient(A("all@here.test"))
    plan = arrange(house, (group, Resolution((QUEEN,), full=("white queen@here.test",), expanded=True)))
    assert plan.deliveries[0].head.endswith(b'\r\nDelivered-To: "red queen"@here.test\r\n')
    assert waiting(plan) == {LOCAL_DESTINATION: ['"white queen"@here.test']}


def test_success_is_due_for_what_is_in_a_mailbox(house: House) -> None:
    wants, silent = Recipient(A("bob@here.test"), Notify.SUCCESS), Recipient(A("carol@here.test"))
    plan = arrange(house, (wants, Resolution((BOB,))), (silent, Resolution((CAROL,))))
    assert plan.succeeded == (wants,)
    assert arrange(house, (Recipient(A("b@here.test"), Notify.NEVER), Resolution((BOB,)))).succeeded == ()


def test_an_alias_of_one_address_elsewhere_passes_the_wishes_on(house: House) -> None:
    wants = Recipient(A("bob@here.test"), Notify.SUCCESS | Notify.FAILURE)
    plan = arrange(house, (wants, Resolution(forwards=(A("b@there.test"),), expanded=True)))
    assert plan.succeeded == plan.expanded == ()
    assert plan.entries[0].recipients == (
        Recipient(A("b@there.test"), wants.notify, OriginalRecipient("rfc822", "bob@here.test")),
    )


def test_a_group_that_ends_in_mailboxes_here_is_a_delivery(house: House) -> None:
    wants = Recipient(A("all@here.test"), Notify.SUCCESS)
    plan = arrange(house, (wants, Resolution((BOB, CAROL), expanded=True)))
    assert plan.succeeded == (wants,) and plan.expanded == ()
    plan = arrange(house, (wants, Resolution((BOB,), full=("carol@here.test",), expanded=True)))
    assert plan.succeeded == () and plan.expanded == (wants,)


def test_a_group_that_goes_on_reports_that_itself_and_asks_its_members_for_no_more(house: House) -> None:
    original = OriginalRecipient("rfc822", "list@there.test")
    wants = Recipient(A("all@here.test"), Notify.SUCCESS | Notify.DELAY, original)
    plan = arrange(house, (wants, Resolution((BOB,), forwards=(A("b@there.test"),), expanded=True)))
    assert plan.expanded == (wants,) and plan.succeeded == ()
    assert plan.entries[0].recipients == (Recipient(A("b@there.test"), Notify.DELAY, original),)
    only = replace(wants, notify=Notify.SUCCESS)
    away = Resolution(forwards=(A("b@there.test"), A("c@there.test")), expanded=True)
    plan = arrange(house, (only, away))
    assert plan.expanded == (only,)
    assert {one.notify for one in plan.entries[0].recipients} == {Notify.NEVER}


def test_an_original_recipient_outside_ascii_is_named_as_such(house: House) -> None:
    plan = arrange(house, (Recipient(A("bøb@here.test")), Resolution(forwards=(A("b@there.test"),), expanded=True)))
    assert plan.entries[0].recipients[0].original == OriginalRecipient("utf-8", "bøb@here.test")


def test_nobody_is_left_out(house: House) -> None:
    assert arrange(house, (Recipient(A("x@here.test")), Resolution())) == DeliveryPlan()
