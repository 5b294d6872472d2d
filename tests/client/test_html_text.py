"""HTML as text, in one pass, whatever is malformed in it."""

import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client.html_text import charset_of_html, text_of_html


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
        ("<head><meta charset=utf-8><p>Hello", "Hello\n"),
        ("<head/>Hello", "Hello\n"),
        ("<html><head><title>t</title>Hello<p>you", "Hello\n\nyou\n"),
        ("<script>x = '<style>'</script>Hello", "Hello\n"),
        ("<style>/* <script> */</style>Hello</style>", "Hello\n"),
        ("<title>never closed<p>Hello</p>", "never closed\n\nHello\n"),
        ("<style>p {}<p>Hello", "p {}\n\nHello\n"),
        ("<table><tr><td>one</td><td>two</td></tr><tr><td>three<td>four</table>", "one  two\nthree  four\n"),
        ("<table><tr><th>a</th><td></td><td>b</td></tr></table>", "a  b\n"),
        ("<a href='https://x.test/?a=1&amp;b=2'>here</a>.", "here <https://x.test/?a=1&b=2>.\n"),
        ("<a href='https://x.test/'>https://x.test/</a>", "https://x.test/\n"),
        (
            "<a href='mailto:a@x.test'>a@x.test</a> <a href='mailto:b@x.test'>Bob</a>",
            "a@x.test Bob <mailto:b@x.test>\n",
        ),
        ("<a href='https://evil.test/'>https://bank.test/</a>", "https://bank.test/ <https://evil.test/>\n"),
        ("<a href='#top'>up</a> <a>none</a> <a href=x>never closed", "up none never closed <x>\n"),
        ("<a href=x><div>block</div></a>after", "block <x>\nafter\n"),
        ("<a href='x'><img src=y alt='Our logo'></a>", "[Our logo] <x>\n"),
        ("<pre>a  b\n  c</pre>d", "a  b\n  c\nd\n"),
        ("<noscript>seen</noscript><template>seen too</template>", "seenseen too\n"),
        ("<div><div><div>a</div></div></div><div>b</div>", "a\nb\n"),
        ("<h1>Head</h1>text<blockquote>said</blockquote>", "Head\ntext\n\nsaid\n"),
        ("a<br><br><br>b", "a\n\nb\n"),
    ],
)
def test_what_a_person_reads(source: str, text: str) -> None:
    assert text_of_html(source) == text


BROKEN = ["<!--", "<a ", "<a x='", "<![CDATA[", "<", "</", "<!", "&#", "<script>", "<p>", "\n", "</div>", "<title>"]
NESTED = ["<div>", "<div><p>", "<b><p>", "<a href=x>", "<table><td>", "<ul><li>", "<font><div>", "<svg>", "<pre>"]
OTHERS = ["<style><p>", "<textarea>", "<select><option>", "&amp;", "<br>", "<td>", "<img alt=x>"]


@pytest.mark.parametrize("unit", BROKEN + NESTED + OTHERS)
def test_the_work_grows_with_the_size_and_not_faster(unit: str) -> None:
    assert calls(unit * 8_000) <= 2.1 * calls(unit * 4_000) + 100
    text_of_html(unit * (300_000 // len(unit)))  # ends within the time that a test has


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


@pytest.mark.parametrize(
    ("octets", "charset"),
    [
        (b"<html><meta charset=koi8-r>", "koi8-r"),
        (b"<META content='text/html; charset=windows-1251' http-equiv=Content-Type>", "windows-1251"),
        (b"<meta http-equiv='Content-Type' content='text/html;charset=\"big5\"'>", "big5"),
        (b"<meta name=viewport><meta charset='utf-8'>", "utf-8"),
        (b"<meta charset=utf-16>", "utf-8"),
        (b"\xef\xbb\xbf<p>", "utf-8"),
        (b"\xff\xfe<\0p\0>\0", "utf-16"),
        (b"<p>charset=koi8-r", None),
        (b"x" * 5000 + b"<meta charset=koi8-r>", None),
        (b"<meta " * 3000, None),
    ],
)
def test_the_charset_that_a_document_names_is_found(octets: bytes, charset: str | None) -> None:
    assert charset_of_html(octets) == charset
