"""Encoded bodies and named charsets: something comes out, whatever goes in."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.charset import decode_charset, is_charset
from waypost.message.transfer_encoding import decode_transfer


@given(st.binary(max_size=200))
def test_what_was_encoded_comes_back(octets: bytes) -> None:
    assert decode_transfer(base64.encodebytes(octets).replace(b"\n", b"\r\n"), "base64") == octets
    assert decode_transfer(binascii.b2a_qp(octets, istext=False), "quoted-printable") == octets
    assert decode_transfer(octets, "8bit") == decode_transfer(octets, "x-unknown") == octets


@given(st.binary(max_size=200))
def test_rubbish_is_passed_over(octets: bytes) -> None:
    for encoding in ("base64", "quoted-printable"):
        assert len(decode_transfer(octets, encoding)) <= len(octets)


@pytest.mark.parametrize(
    ("encoded", "octets"), [(b"QUI", b"AB"), (b"QUJD?!\r\n RA", b"ABCD"), (b"QUJDR", b"ABC"), (b"=", b""), (b"A", b"")]
)
def test_base64_that_breaks_off_gives_what_is_whole(encoded: bytes, octets: bytes) -> None:
    assert decode_transfer(encoded, "base64") == octets


def test_base64_in_pieces_with_padding_of_their_own_is_whole() -> None:
    lines = [base64.b64encode(piece) for piece in (b"one\r\n", b"two", b"three!!", b"x" * 57)]
    assert decode_transfer(b"\r\n".join(lines) + b"\r\n", "base64") == b"one\r\ntwothree!!" + b"x" * 57
    assert decode_transfer(b"".join(lines), "base64") == b"one\r\ntwothree!!" + b"x" * 57
    footer = b"QQ==\r\n____________\r\nTo leave this list write to x@y.test\r\n"
    assert decode_transfer(footer, "base64") == b"A", "text that a list put behind it is not encoded"
    assert len(decode_transfer(b"QQ==" * 2_000_000, "base64")) < 2_000_000, "the work is bounded"


@pytest.mark.parametrize("name", ["punycode", "idna", "IDNA", "unicode_escape", "undefined", "hex", "zlib", "x\0", ""])
def test_what_is_no_charset_is_read_as_utf_8(name: str) -> None:
    assert not is_charset(name)
    assert decode_charset("Grüße".encode() * 100_000, name).startswith("Grüße")


@given(st.binary(max_size=50), st.text(max_size=20) | st.sampled_from(["utf-16", "utf-7", "iso-2022-jp", "gb18030"]))
def test_any_octets_in_any_charset_are_some_text(octets: bytes, name: str) -> None:
    assert isinstance(decode_charset(octets, name), str)
