"""HTML as text, in one pass, whatever is malformed in it."""

import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client.html_text import text_of_html


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>Dear  <b>Bob</b>,</p><p>do<br/>come</p>", "Dear Bob,\n\ndo\ncome\n"),
        ("<HEAD><title>no</title><style>p { }</style></HEAD>yes", "yes\n"),
        ("<script>if (a < b && c > d) evil()</script>good", "good\n"),
        ("a<!-- <p>no</p> -->b<!doctype html>c<?php no ?>d", "abcd\n"),
        ("&lt;b&gt; &amp; &eacute;&#233;&#xE9;&nbsp;x", "<b> & ééé x\n"),
        ("1 < 2 and 3 > 2 <3", "1 < 2 and 3 > 2 <3\n"),
        ("a<!-- no end", "a\n"),
        ("a<b no end", "a\n"),
        ("a</b no end", "a\n"),
        ("<b>Dear</b> Bob, <i>do</i>\r\n come", "Dear Bob, do come\n"),
        ("<ul><li>one<li>two</ul>", "one\ntwo\n"),
        ("a&#" + "9" * 5000 + ";b", "a\N{REPLACEMENT CHARACTER};b\n"),
        ("&#" + "0" * 5000 + "65;b", "Ab\n"),
        ("&#" + "0" * 5000 + ";b", "\N{REPLACEMENT CHARACTER}b\n"),
        ("&#" + "0" * 5000 + "g", "\N{REPLACEMENT CHARACTER}g\n"),
        ("&#" + "0" * 5000 + "a", "\N{REPLACEMENT CHARACTER}a\n"),
        ("&#x" + "0" * 5000 + "41;b&#X" + "0" * 5000 + "e9;", "Abé\n"),
        ("&#0;", "\N{REPLACEMENT CHARACTER}\n"),
        ("</head>a</script>b", "ab\n"),
        ("", "\n"),
        ("<", "<\n"),
    ],
)
def test_what_a_person_reads(source: str, text: str) -> None:
    assert text_of_html(source) == text


@pytest.mark.parametrize("unit", ["<!--", "<a ", "<a x='", "<![CDATA[", "<", "</", "<!", "&#", "<script>", "<p>", "\n"])
def test_the_work_grows_with_the_size_and_not_faster(unit: str) -> None:
    assert calls(unit * 20_000) <= 2.1 * calls(unit * 10_000) + 100
    text_of_html(unit * 2_000_000)  # ends within the time that a test has


def calls(source: str) -> int:
    count = 0

    def called(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        text_of_html(source)
    finally:
        sys.setprofile(None)
    return count


@given(
    st.lists(st.sampled_from(["<", ">", "</", "<!--", "-->", "&#", "script", "p", "'", '"', " ", "x", "&lt;"])).map(
        "".join
    )
)
def test_whatever_it_is_some_text_comes_out(source: str) -> None:
    assert text_of_html(source).endswith("\n")
