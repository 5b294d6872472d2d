"""Content-Type and Content-Disposition are read as they are meant."""

import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.content_fields import (
    MOST_PARAMETERS,
    ContentField,
    parse_content_type,
    parse_disposition,
    parse_encoding,
)


@pytest.mark.parametrize(
    ("written", "value", "parameters"),
    [
        (b"text/plain", "text/plain", {}),
        (b"TEXT/Plain; CHARSET=UTF-8", "text/plain", {"charset": b"UTF-8"}),
        (b"text/plain; charset=us-ascii (Plain text)", "text/plain", {"charset": b"us-ascii"}),
        (b"(a (nested) \\) one) text/plain ( ; ) ; (c) charset (d) = (e) utf-8", "text/plain", {}),
        (b"text/plain; (c) charset= (e) utf-8", "text/plain", {"charset": b"utf-8"}),
        (b'a/b; x="a;b\\"c\\\\"; y=2', "a/b", {"x": b'a;b"c\\', "y": b"2"}),
        (b"a/b; name=my file (1).pdf; y=2", "a/b", {"name": b"my file", "y": b"2"}),
        (b"a/b; name=file(1).pdf", "a/b", {"name": b"file(1).pdf"}),
        (b"a/b; boundary=a/b:c?d", "a/b", {"boundary": b"a/b:c?d"}),
        (b'a/b; x="no end; y=2', "a/b", {"x": b"no end; y=2"}),
        (b'a/b; x="a" rubbish; y=2', "a/b", {"x": b"a", "y": b"2"}),
        (b"a/b;; ;=x; y; z=;x=1;x=2", "a/b", {"z": b"", "x": b"1"}),
        (b"a/b nonsense; x=1", "a/b", {"x": b"1"}),
        (b"text / html;x=1;", "text/html", {"x": b"1"}),
    ],
)
def test_content_types(written: bytes, value: str, parameters: dict[str, bytes]) -> None:
    assert parse_content_type(written) == ContentField(value, tuple(parameters.items()))


@pytest.mark.parametrize("written", [b"", b"text", b"/plain", b"text/", b"(text/plain", b";", "tëxt/plain".encode()])
def test_what_names_no_type_is_none(written: bytes) -> None:
    assert parse_content_type(written) is None


def test_dispositions_and_encodings() -> None:
    read = parse_disposition(b'Attachment; filename="a b.txt"; size=3')
    assert read is not None
    assert (read.value, read.text("filename"), read.get("size"), read.text("nothing")) == (
        "attachment",
        "a b.txt",
        b"3",
        None,
    )
    assert parse_disposition(b"") is None
    assert [parse_encoding(value) for value in (b"BASE64", b" (x) 8bit ;")] == ["base64", "8bit"]
    assert [parse_encoding(value) for value in (b"", b"?")] == ["7bit", "7bit"]


@pytest.mark.parametrize(
    ("written", "parameters", "text"),
    [
        (b"a/b; n*0=one; n*1=two", {"n": b"onetwo"}, "onetwo"),
        (b"a/b; n*1=two; x=1; n*0=one", {"n": b"onetwo", "x": b"1"}, "onetwo"),
        (b"a/b; n*0*=utf-8'en'%c3; n*1*=%a4%20; n*2=\"a %b\"", {"n*": b"utf-8'en'%c3%a4%20a%20%25b"}, "ä a %b"),
        (b"a/b; n*=iso-8859-1''%e4; n=ae", {"n*": b"iso-8859-1''%e4", "n": b"ae"}, "ä"),
        (b"a/b; n*0=x; n*1*=%41", {"n*": b"''x%41"}, "xA"),
        (b"a/b; n*0=x; n*2=lost", {"n": b"x"}, "x"),
        (b"a/b; n*1=lost", {}, None),
        (b"a/b; n*0=x; n*0=y; n*01=z; n*10000=z", {"n": b"x", "n*01": b"z", "n*10000": b"z"}, "x"),
        (b"a/b; n*=no quotes%20here", {"n*": b"no quotes%20here"}, "no quotes here"),
        (b"a/b; n*=x-unknown''%c3%a4", {"n*": b"x-unknown''%c3%a4"}, "ä"),
        ("a/b; n=schön".encode(), {"n": "schön".encode()}, "schön"),
        ("a/b; n=schön".encode("latin-1"), {"n": "schön".encode("latin-1")}, "schön"),
        (b"a/b; n*=''%zz%4", {"n*": b"''%zz%4"}, "%zz%4"),
    ],
)
def test_parameters_of_rfc_2231(written: bytes, parameters: dict[str, bytes], text: str | None) -> None:
    read = parse_content_type(written)
    assert read is not None
    assert dict(read.parameters) == parameters
    assert read.text("n") == text


@pytest.mark.parametrize("unit", [b"x*%d*=a; ", b"x*%d=a; ", b"y%d=a; ", b"x*0*=a; ", b";", b"(", b"a", b'"', b"\\"])
def test_a_hundred_thousand_parameters_are_passed_over(unit: bytes) -> None:
    value = b"a/b; " + b"".join(unit % number if b"%d" in unit else unit for number in range(100_000))
    read = parse_content_type(value)
    assert read is not None
    assert len(read.parameters) <= MOST_PARAMETERS
    assert calls(value) < 60 * MOST_PARAMETERS + 12 * 100_000


def calls(value: bytes) -> int:
    """Return how many functions are called, built-in ones included, to read a value."""
    count = 0

    def called(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        parse_content_type(value)
    finally:
        sys.setprofile(None)
    return count


PIECES = st.lists(st.sampled_from([*b"a;=\"\\()*0'% \t/", "ä".encode()[0]]) | st.integers(0, 255), max_size=40).map(
    bytes
)


@given(PIECES)
def test_whatever_follows_the_type_it_is_read(rest: bytes) -> None:
    read = parse_content_type(b"text/plain;" + rest)
    assert read is not None and read.value == "text/plain"
    names = [name for name, _ in read.parameters]
    assert len(names) == len(set(names))
    for name in names:
        assert read.get(name) is not None and isinstance(read.text(name.removesuffix("*")), str | None)
    parse_disposition(rest)
    parse_encoding(rest)


@given(st.text(max_size=50), st.sampled_from(["utf-8", "utf-16", "iso-8859-2"]))
def test_an_encoded_value_comes_back(text: str, charset: str) -> None:
    octets = text.encode(charset, "replace")
    encoded = "".join(f"%{octet:02x}" for octet in octets)
    read = parse_content_type(f"a/b; n*={charset}''{encoded}".encode())
    assert read is not None
    assert read.text("n") == octets.decode(charset, "replace")
