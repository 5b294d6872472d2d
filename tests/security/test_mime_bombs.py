"""MIME bombs: work that grows with the size of the message and not faster (CVE-2024-23184, CVE-2026-26312 and kin).

The work is counted in calls, so the result is the same on every machine. What a search does inside of one call is not
seen that way: therefore each bomb is also set off large, and has to end within the time of a test, in which work that
grows with the square would not.
"""

import contextlib
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from waypost.client.reading import read_message, summarize
from waypost.message.address import Address
from waypost.message.address_list import AddressListError, mailboxes_of
from waypost.message.dsn import compose
from waypost.message.envelope import Envelope, Recipient
from waypost.message.headers import HeaderBlock
from waypost.message.received import count_received, passed_here
from waypost.message.reply import Reply
from waypost.message.report import Action, Concerned, Report
from waypost.message.structure import scan_structure
from waypost.message.trace import TraceId
from waypost.protocol.pop3.surrogate import surrogate
from waypost.submission.completion import MalformedHeader, complete, prepare, read_originators

TRACE = TraceId(1 << 60)
NOW = 1_795_500_000_000_000
MIB = 1024 * 1024


def counted(work: Callable[[bytes], object], data: bytes) -> int:
    """Return how many functions are called, built-in ones included."""
    count = 0

    def called(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        work(data)
    finally:
        sys.setprofile(None)
    return count


def arrives(data: bytes) -> None:
    """What is done with the header of each message that comes by port 25."""
    block = HeaderBlock(data)
    count_received(block)
    passed_here(block, "mx.here.test")


def is_submitted(data: bytes) -> None:
    """What is done with the header of each message that a user submits."""
    block = HeaderBlock(data)
    with contextlib.suppress(MalformedHeader):
        block = prepare(block, sender=None, smtputf8=True, names=("mx.here.test",))
        read_originators(block)
    complete(block, trace=TRACE, hostname="mx.here.test", now=NOW)


def is_returned(data: bytes) -> None:
    """What is done with a message that comes back."""
    concerned = Concerned(
        Recipient(Address("bob", "there.test")), "5.1.1", Reply(550, None, (data.decode("utf-8", "replace"),))
    )
    to = Address("alice", "here.test")
    report = Report(Action.FAILED, TRACE, NOW, "mx.here.test", to, TRACE, Envelope(to), NOW, (concerned,), data, data)
    compose(report)


def is_fetched(data: bytes) -> None:
    """What POP3 does with a header that holds UTF-8, for a client that does not say so."""
    surrogate(data)


def are_addresses(data: bytes) -> None:
    """What submission does with From and Sender."""
    with contextlib.suppress(AddressListError):
        mailboxes_of(data)


def is_read(data: bytes) -> None:
    """What the mail program does with a message, and with each of a list."""
    read_message(data)
    summarize(data)


MULTIPART = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
BOMBS: dict[str, tuple[Callable[[bytes], object], bytes, bytes, bytes]] = {
    "from fields": (arrives, b"", b"From: a@b.test\r\n", b"\r\n"),
    "received fields": (arrives, b"", b"Received: by mx.here.test (Waypost)\r\n", b"\r\n"),
    "folded lines": (arrives, b"Subject:", b"\r\n x", b"\r\n\r\n"),
    "lines that are no fields": (arrives, b"", b"x\r\n", b"\r\n"),
    "colons": (arrives, b"", b":", b"\r\n\r\n"),
    "spaces before a colon": (arrives, b"A", b" ", b"\r\n\r\n"),
    "carriage returns": (arrives, b"A:", b"\r", b"\r\n\r\n"),
    "submitted to fields": (is_submitted, b"From: a@b.test\r\n", b"Bcc: a@b.test\r\n", b"\r\n"),
    "submitted addresses": (is_submitted, b"From: ", b"a@b.test, ", b"c@d.test\r\n\r\n"),
    "submitted groups": (is_submitted, b"From: ", b"g:;,", b"a@b.test\r\n\r\n"),
    "addresses": (are_addresses, b"", b"a@b.test,", b""),
    "open comments": (are_addresses, b"", b"(", b""),
    "open quotes": (are_addresses, b"", b'"', b""),
    "open brackets": (are_addresses, b"", b"<", b""),
    "quotes in brackets": (are_addresses, b"<", b'"a', b""),
    "backslashes": (are_addresses, b'"', b"\\", b""),
    "words": (are_addresses, b"", b"a ", b""),
    "comments": (are_addresses, b"a@b.test ", b"()", b""),
    "fetched addresses": (is_fetched, "To: é ".encode(), b"a@b.test, ", b"\r\n\r\n"),
    "fetched comments": (is_fetched, "To: é ".encode(), b"(", b"\r\n\r\n"),
    "fetched quotes": (is_fetched, "To: é ".encode(), b'"', b"\r\n\r\n"),
    "fetched fields": (is_fetched, "To: é\r\n".encode(), b"To: a\r\n", b"\r\n\r\n"),
    "returned words": (is_returned, b"", b"a\r\n", b""),
    "returned lines": (is_returned, b"A: b\r\n\r\n", b"--=_\r\n", b""),
    "returned fields": (is_returned, b"", b"A: b\r\n", b"\r\n"),
    "nested multiparts": (is_read, b"", MULTIPART + b"--b\r\n", b""),
    "nested messages": (is_read, b"", b"Content-Type: message/rfc822\r\n\r\n", b""),
    "boundaries": (is_read, MULTIPART, b"--b\r\n", b""),
    "parts": (is_read, MULTIPART, b"--b\r\n\r\nx\r\n", b""),
    "parameters": (is_read, b"Content-Type: text/plain", b"; x*0*=a", b"\r\n\r\nx"),
    "base64": (is_read, b"Content-Transfer-Encoding: base64\r\n\r\n", b"=A", b""),
    "quoted-printable": (is_read, b"Content-Transfer-Encoding: quoted-printable\r\n\r\n", b"=\r=", b""),
    "punycode": (is_read, b"Content-Type: text/plain; charset=punycode\r\n\r\n", b"a-9", b""),
    "markup": (is_read, b"Content-Type: text/html\r\n\r\n", b"<a ", b""),
    "comments in markup": (is_read, b"Content-Type: text/html\r\n\r\n", b"<!--", b""),
    "digits in markup": (is_read, b"Content-Type: text/html\r\n\r\n", b"&#9", b"9" * 5000 + b";"),
    "encoded words": (is_read, b"Subject:", b" =?utf-8?q?a?=", b"\r\n\r\n"),
    "broken encoded words": (is_read, b"Subject:", b"=?a", b"\r\n\r\n"),
    "encoded words of no charset": (is_read, b"Subject:", b" =?x?q?a?=", b"\r\n\r\n"),
    "dates": (is_read, b"Date: ", b"1 ", b"\r\n\r\n"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_the_work_grows_with_the_size_and_not_faster(name: str) -> None:
    work, head, unit, tail = BOMBS[name]
    small, large = (counted(work, head + unit * count + tail) for count in (2000, 4000))
    assert large <= 2.2 * small + 200
    work(head + unit * (MIB // len(unit)) + tail)


def test_cyclic_nesting_is_no_depth_for_a_stack() -> None:
    """CVE-2026-26312: messages within messages, each of which seems to hold the others."""
    data = (b"Content-Type: message/rfc822\r\n\r\n" + MULTIPART + b"--b\r\n") * 5000
    structure = scan_structure(data)
    assert not structure.whole
    assert read_message(data).text
