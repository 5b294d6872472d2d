"""Names as octets and as text: what dnspython says of them, too."""

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.dns.names import ROOT, is_below, labels_of, name_of, text_of

LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=5)


def wire(labels: list[bytes]) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + ROOT


@given(LABELS)
def test_every_name_comes_back_from_its_text(labels: list[bytes]) -> None:
    name = wire(labels).lower()
    if len(name) > 255:
        return
    text = text_of(name)
    assert text.isascii() and text.isprintable() and " " not in text
    assert not labels or name_of(text) == name_of(text + ".") == name
    assert labels_of(name) == [label.lower() for label in labels]


@given(LABELS.filter(lambda labels: len(wire(labels)) <= 255 and labels))
def test_a_name_reads_as_a_library_reads_it(labels: list[bytes]) -> None:
    known = dns.name.Name([*labels, b""])
    assert text_of(wire(labels)) == known.to_text(omit_final_dot=True)
    assert name_of(known.to_text()) == known.canonicalize().to_wire()


@given(st.text(alphabet="ab.\\09@-", max_size=20))
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    try:
        name = name_of(text)
    except ValueError as error:
        assert str(error)
        return
    assert name == dns.name.from_text(text).canonicalize().to_wire() or name == ROOT


@pytest.mark.parametrize(
    "text", ["a..b", ".a", "x" * 64, "a\\", "a\\2", "a\\999", "a@b", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_what_is_no_name_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        name_of(text)


def test_a_name_has_255_octets_at_most() -> None:
    longest = ".".join(["x" * 63] * 3 + ["x" * 61])
    assert len(name_of(longest)) == 255
    with pytest.raises(ValueError, match="255"):
        name_of(longest + "x")


def test_below_is_by_labels_and_not_by_octets() -> None:
    assert is_below(name_of("a.b.test"), name_of("b.test")) and is_below(name_of("b.test"), ROOT)
    assert not is_below(name_of("xb.test"), name_of("b.test"))
    assert not is_below(name_of("test"), name_of("b.test"))
    assert not is_below(wire([b"\x04test"]), wire([b"test"]))
