"""Envelopes in storage: whatever MAIL and RCPT said is read back from the queue, field by field."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.storage.letters import START, Letters, deferral, finished

from waypost.message.address import Address
from waypost.message.envelope import BodyType, DeliverBy, Envelope, Notify, OriginalRecipient, Recipient, Ret
from waypost.storage import Queue, Storage

ALICE = Address.parse('"alice b"@wonderland.test')
BOB = Address.parse("bob@builder.test")

ENVELOPE: dict[str, Any] = {
    "reverse_path": ALICE,
    "body": BodyType.BINARY,
    "smtputf8": True,
    "size": 4711,
    "ret": Ret.HEADERS,
    "envid": "QQ314159",
    "hold_until": START + 1,
    "deliver_by": DeliverBy(START + 2, "N", True),
    "priority": -4,
}
"""A value for each field of an envelope, other than its default. The recipients stand in the entries."""

RECIPIENT: dict[str, Any] = {
    "address": Address("b ö", "builder.test", True),
    "notify": Notify.SUCCESS | Notify.FAILURE,
    "original": OriginalRecipient("utf-8", "böb@builder.test"),
}

NESTED: dict[type[msgspec.Struct], dict[str, Any]] = {
    OriginalRecipient: {"kind": "utf-8", "address": "böb@builder.test"},
    DeliverBy: {"deadline": START + 2, "mode": "N", "trace": True},
    Address: {"local": "b ö", "domain": "builder.test", "quoted": True},
}
"""What stands within those values."""


@pytest.fixture
def queue(storage: Storage) -> Queue:
    return storage.queue


async def entry_of(
    letters: Letters, envelope: Envelope, *recipients: Recipient
) -> tuple[Envelope, tuple[Recipient, ...]]:
    """Accept a message; return what its queue entry says, which a worker and an operator read alike."""
    message = await letters.letter(to=["bob@builder.test"])
    entry = replace(message.entries[0], recipients=recipients)
    await letters.storage.spool.accept(replace(message, envelope=envelope, entries=(entry,)))
    message.body.discard()
    waiting = (await letters.due("builder.test"))[-1]
    listed = await letters.storage.queue.get(waiting.id)
    assert (listed.envelope, listed.recipients) == (waiting.envelope, waiting.recipients)
    return waiting.envelope, waiting.recipients


def with_defaults(kind: type[msgspec.Struct], values: dict[str, Any]) -> list[str]:
    """Return the fields that are missing in `values`, or have their default there."""
    fields = msgspec.structs.fields(kind)
    return [field.name for field in fields if values.get(field.name, field.default) == field.default]


def test_the_values_of_these_tests_name_every_field_and_are_no_defaults() -> None:
    """A new field fails here: give it a value above, and then a place in the rows."""
    assert with_defaults(Envelope, ENVELOPE) == ["recipients"]
    assert with_defaults(Recipient, RECIPIENT) == []
    for kind, values in NESTED.items():
        assert with_defaults(kind, values) == []


async def test_every_field_of_an_envelope_is_read_back(letters: Letters) -> None:
    envelope = Envelope(**ENVELOPE)
    found, _ = await entry_of(letters, envelope, Recipient(BOB))
    assert {name: getattr(found, name) for name in ENVELOPE} == ENVELOPE
    assert found == envelope


@pytest.mark.parametrize("name", ENVELOPE)
async def test_each_field_of_an_envelope_is_read_back_alone(letters: Letters, name: str) -> None:
    envelope = replace(Envelope(None), **{name: ENVELOPE[name]})
    found, _ = await entry_of(letters, envelope, Recipient(BOB))
    assert found == envelope


async def test_every_field_of_a_recipient_is_read_back(letters: Letters) -> None:
    recipients = (
        Recipient(**RECIPIENT),
        *(replace(Recipient(BOB), **{name: value}) for name, value in RECIPIENT.items()),
        Recipient(BOB, Notify.NEVER),
        Recipient(BOB),
    )
    _, found = await entry_of(letters, Envelope(ALICE), *recipients)
    assert found == recipients


async def test_what_a_deferral_leaves_of_the_recipients_is_read_back(queue: Queue, letters: Letters) -> None:
    message = await letters.letter(to=["bob@builder.test"])
    both = (Recipient(BOB), Recipient(**RECIPIENT))
    entry = replace(message.entries[0], recipients=both)
    await letters.storage.spool.accept(replace(message, envelope=Envelope(**ENVELOPE), entries=(entry,)))
    (waiting,) = await letters.due("builder.test")
    later = replace(deferral(waiting, START), remaining=both[1:])
    await queue.settle([finished(waiting, deferral=later)])
    (again,) = await letters.due("builder.test")
    assert again.recipients == both[1:] and again.envelope == Envelope(**ENVELOPE)
