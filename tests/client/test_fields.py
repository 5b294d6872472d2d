"""Header fields as they are written and as they are read: what a person typed arrives as it was typed."""

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client.encoded import decode_date, decode_value
from waypost.client.errors import ClientError
from waypost.client.fields import encoded_words, people_field, text_field
from waypost.client.people import Person, parse_people, parse_person
from waypost.message.address import Address
from waypost.message.address_list import mailboxes_of
from waypost.message.headers import HeaderBlock

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=200)
NAME = TEXT.map(lambda text: " ".join(text.split()))
ADDRESS = st.sampled_from(
    [
        Address("a", "x.test"),
        Address("quoted local", "x.test"),
        Address("very.long.address.indeed", "some.very.long.domain.name.example.test"),
    ]
)


def value_of(field: bytes) -> bytes:
    assert field.endswith(b"\r\n")
    for line in field.split(b"\r\n"):
        assert len(line) <= 998
    assert all(len(word) <= 75 for word in re.findall(rb"=\?\S+\?=", field))
    block = HeaderBlock(field)
    assert len(block.fields) == 1 and not block.problems
    return block.value(block.fields[0])


@given(TEXT)
def test_any_text_is_read_as_it_was_written(text: str) -> None:
    field = text_field("Subject", text)
    assert field.isascii()
    assert decode_value(value_of(field)) == text


@given(st.lists(st.builds(Person, NAME, ADDRESS), min_size=1, max_size=8))
def test_any_names_are_read_as_they_were_written(people: list[Person]) -> None:
    value = value_of(people_field("To", people))
    assert mailboxes_of(value) == [str(person.address) for person in people]
    assert [person.address for person in parse_people([value.decode()])] == [person.address for person in people]
    read = message_from_bytes(b"To: " + value + b"\r\n\r\n", policy=policy.default)["To"].addresses
    for person, found in zip(people, read, strict=True):
        if all(character.isprintable() and character.isascii() for character in person.name):
            assert found.display_name == person.name


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Tea at five?", b"Subject: Tea at five?\r\n"),
        ("", b"Subject:\r\n"),
        ("Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}ße", b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"),
        ("two  spaces", b"Subject: =?utf-8?q?two__spaces?=\r\n"),
        ("=?utf-8?q?not_this?=", b"Subject: =?utf-8?b?PT91dGYtOD9xP25vdF90aGlzPz0=?=\r\n"),
    ],
)
def test_plain_text_stays_plain_and_the_rest_is_encoded(text: str, line: bytes) -> None:
    assert text_field("Subject", text) == line


@pytest.mark.parametrize("text", ["a\r\nBcc: eve@x.test", "a\nb", "a\rb", "a\0"])
def test_a_value_makes_no_second_field(text: str) -> None:
    with pytest.raises(ValueError, match="line break or a NUL"):
        text_field("Subject", text)


def test_long_fields_are_folded_between_words() -> None:
    field = people_field("To", [Person(f"Guest number {n}", Address(f"guest{n}", "wonderland.test")) for n in range(5)])
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert field.startswith(b"To: Guest number 0 <guest0@wonderland.test>, Guest number 1\r\n <guest1@")


def test_text_in_other_scripts_takes_the_shorter_encoding() -> None:
    assert all(word.startswith("=?utf-8?b?") for word in encoded_words("Привет, мир"))
    assert encoded_words("") == []


def test_an_address_is_ascii_unless_its_local_part_is_not() -> None:
    umlaut = "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher"
    assert people_field("To", [Person("", Address("a", f"{umlaut}.test"))]) == b"To: a@xn--bcher-kva.test\r\n"
    assert people_field("To", [Person("", Address(umlaut, "x.test"))]).decode() == f"To: {umlaut}@x.test\r\n"


# -- people as they are typed ---------------------------------------------------------------------------------


def test_people_are_read_with_and_without_names() -> None:
    people = parse_people(['Alice <alice@x.test>, "Hatter, Mad" <hatter@x.test>', "", "bob@x.test"])
    assert people == (
        Person("Alice", Address("alice", "x.test")),
        Person("Hatter, Mad", Address("hatter", "x.test")),
        Person("", Address("bob", "x.test")),
    )


@pytest.mark.parametrize(
    "text",
    ["alice", "alice@", "@x.test", "a@x.test b@y.test", "a@x.test)b@y.test", "<a@x.test", "a@x..test", "\udc80@x.test"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ClientError, match="is not an address"):
        parse_people([text])


def test_one_person_is_exactly_one() -> None:
    assert parse_person("Alice <alice@x.test>").name == "Alice"
    for text in ("", "a@x.test, b@x.test"):
        with pytest.raises(ClientError, match="give one address"):
            parse_person(text)


# -- values as they come --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"=?iso-8859-1?Q?Gr=FC=DFe?=", "Grüße"),
        (b"=?utf-8?B?8J+Ntw==?= wine", "\N{WINE GLASS} wine"),
        (b"=?utf-8?B?8J+N?= =?utf-8?B?tw==?=", "\N{WINE GLASS}"),
        (b"=?utf-8?B?8J+Ntw?=", "\N{WINE GLASS}"),
        (b"a =?us-ascii?q?b?= \t =?iso-8859-1?q?c=FC?= d", "a bcü d"),
        (b"=?us-ascii*en?q?b_c?=", "b c"),
        (b"=?x-unknown?q?b?= =?utf-8?q?c?=", "=?x-unknown?q?b?= c"),
        (b"=?hex?q?62?=", "=?hex?q?62?="),
        (b"=?utf-8?b?!?=", "=?utf-8?b?!?="),
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"=?utf-8?q?=FF?=", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_values_are_decoded_in_whatever_state_they_are(value: bytes, text: str) -> None:
    assert decode_value(value) == text


@given(st.binary(max_size=300), st.lists(st.sampled_from([b"=?utf-8?b?", b"=?utf-7?Q?", b"?=", b" ", b"=FF", b"YQ=="])))
def test_no_value_crashes_the_reader(junk: bytes, pieces: list[bytes]) -> None:
    for value in (junk, b"".join(pieces) + junk[:9] + b"?="):
        assert isinstance(decode_value(value), str)
    assert decode_date(junk) is None or isinstance(decode_date(junk), datetime)


def test_dates_are_read_with_their_zone() -> None:
    date = decode_date(b"Tue, 24 Nov 2026 12:00:00 +0100")
    assert date is not None and date.isoformat() == "2026-11-24T12:00:00+01:00"
    assert decode_date(b"Tue, 24 Nov 2026 12:00:00 -0000") == datetime(2026, 11, 24, 12, tzinfo=UTC)
    for nonsense in (b"", b"tomorrow", b"Tue, 99 Nov 2026 12:00:00", b"Tue, 24 Nov 99999 12:00:00 +0000"):
        assert decode_date(nonsense) is None


@pytest.mark.parametrize(
    "name", ["To", "Subject", "Disposition-Notification-To", "X-Somebody-Has-Thought-Of-A-Long-Name"]
)
@pytest.mark.parametrize("letter", ["\u0436", "\u00e9", "\U0001f600", "\u00e9 a "])
def test_no_line_with_an_encoded_word_has_more_than_76_octets(name: str, letter: str) -> None:
    person = Person((letter * 60).strip(), Address("bob", "a.long.name.of.a.domain.builder.test"))
    for octets in (text_field(name, letter * 99), people_field(name, [person, person])):
        assert all(len(line) <= 76 for line in octets.split(b"\r\n") if b"=?" in line), octets
