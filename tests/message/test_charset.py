"""Charsets: every name that mail uses is read, and no name or octets are an error."""

from email import charset as mail
from encodings.aliases import aliases

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.charset import decode_charset, is_charset
from waypost.message.decoded_words import decode_value

OF_MAIL = sorted({*mail.CHARSETS, *mail.ALIASES} - {"viscii", "big5-tw", "big5_tw"})


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (b"=?windows-1251?B?z/Do4uXy?=", "\u041f\u0440\u0438\u0432\u0435\u0442"),
        (b"=?koi8-r?B?8NLJ18XU?=", "\u041f\u0440\u0438\u0432\u0435\u0442"),
        (b"=?ISO-2022-JP?B?GyRCRnxLXDhsGyhC?=", "\u65e5\u672c\u8a9e"),
        (b"=?Shift_JIS?B?k/qWe4zqh0A=?=", "\u65e5\u672c\u8a9e\u2460"),  # a letter that Windows added
        (b"=?EUC-JP?B?xvzL3Ljs?=", "\u65e5\u672c\u8a9e"),
        (b"=?gb18030?B?1tDOxA==?=", "\u4e2d\u6587"),
        (b"=?gb2312?B?1tDOxOlG?=", "\u4e2d\u6587" + b"\xe9\x46".decode("gbk")),  # a letter of GBK
        (b"=?big5?B?pKSk5Q==?=", "\u4e2d\u6587"),
        (b"=?euc-kr?B?x9GxuQ==?=", "\ud55c\uad6d"),
        (b"=?ks_c_5601-1987?B?x9GxuYnV?=", "\ud55c\uad6d" + b"\x89\xd5".decode("cp949")),
        (b"=?iso-8859-1?Q?=93caf=E9=94?=", "\u201ccaf\u00e9\u201d"),  # quotation marks of Windows-1252
        (b"=?iso-8859-8-i?B?+ezl7Q==?=", "\u05e9\u05dc\u05d5\u05dd"),
        (b"=?iso-8859-15?Q?=A4?= =?utf-7?Q?+AOk-?=", "\u20ac\u00e9"),
        (b"=?us-ascii?Q?caf=C3=A9?=", "caf\u00e9"),
        (b"=?nobody-knows?Q?caf=C3=A9?=", "=?nobody-knows?Q?caf=C3=A9?="),
        (b"caf\xe9", "caf\u00e9"),
        ("caf\u00e9".encode(), "caf\u00e9"),
    ],
)
def test_a_subject_is_read_in_the_charset_that_it_names(word: bytes, text: str) -> None:
    assert decode_value(word) == text


@pytest.mark.parametrize("name", OF_MAIL)
def test_every_charset_that_python_knows_for_mail_is_read(name: str) -> None:
    assert is_charset(name)
    assert decode_charset(b"Hello 1", name) == "Hello 1"


@given(
    st.binary(max_size=60), st.sampled_from([*sorted({*aliases, *aliases.values()}), "", "\0", "x" * 99, "utf\u00a08"])
)
def test_any_octets_in_any_charset_are_some_text(octets: bytes, name: str) -> None:
    assert isinstance(decode_charset(octets, name), str)


def test_a_wrong_octet_makes_no_other_charset_of_utf8() -> None:
    text = "Gr\u00fc\u00dfe aus K\u00f6ln"
    assert decode_charset(text.encode() + b"\xff", "us-ascii") == text + "\N{REPLACEMENT CHARACTER}"
