"""The parsers of what strangers wrote, as targets: addresses, headers, MIME, reports, names, logins, settings."""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.dns.bombs import BOMBS
from tests.fuzz.examples import (
    CONFIGURATION,
    HEADER,
    HEADER_WORDS,
    MIME,
    MIME_WORDS,
    NAMES,
    SCRAM_FINAL,
    SCRAM_FIRST,
    wire,
)
from tests.fuzz.target import Target
from tests.message.test_structure import everything

from waypost.client.encoded import decode_date, decode_value
from waypost.client.html_text import text_of_html
from waypost.client.reading import read_message, summarize
from waypost.config.load import ConfigErrors, parse
from waypost.dns.answers import AAAA, MX, TXT, A, BadAnswer, read_answer
from waypost.dns.exchange import Query, read_reply
from waypost.dns.names import name_of
from waypost.dns.wire import MOST_RECORDS, MOST_STEPS, Type
from waypost.login.claim import LoginClaim
from waypost.message.address import Address, AddressError, parse_path
from waypost.message.address_list import AddressListError, mailboxes_of
from waypost.message.content_fields import parse_content_type, parse_disposition
from waypost.message.dsn import compose
from waypost.message.dsn_fields import passes_smtp
from waypost.message.envelope import Envelope, OriginalRecipient, Recipient, Ret
from waypost.message.headers import HeaderBlock, find_header_end, message_id_of
from waypost.message.received import Hop, count_received, received_field
from waypost.message.reply import Reply
from waypost.message.report import Action, Concerned, Report
from waypost.message.structure import DEEPEST, scan_structure
from waypost.message.trace import TraceId
from waypost.protocol.pop3.surrogate import surrogate
from waypost.protocol.sasl.client import ScramClient
from waypost.protocol.sasl.scram import ScramKeys, derive_keys
from waypost.protocol.sasl.server import LoginServer, PlainServer, SaslError, ScramServer
from waypost.protocol.smtp.parameters import ParameterRefused, decode_line, parse_mail, parse_rcpt
from waypost.service.machine.logging import HumanFormatter, JsonFormatter
from waypost.submission.completion import MalformedHeader, complete, prepare, read_originators

NOW = 1_795_500_000_000_000
TRACE = TraceId(1 << 60)


def one(run: Callable[[bytes], None]) -> Callable[[Sequence[bytes]], object]:
    """A target that takes its octets whole."""
    return lambda pieces: run(b"".join(pieces))


def harmless(text: str) -> bool:
    """True for text that ends no line, steers no terminal, and turns nothing around."""
    return not re.search("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", text)


def addresses(data: bytes) -> None:
    """What is read as an address is written as the same one, on one line; lists of them give addresses."""
    text = data.decode("utf-8", "surrogateescape" if data[:1] == b"!" else "replace")
    for read in (lambda: Address.parse(text), lambda: parse_path(text, utf8=True)[0]):
        try:
            address = read()
        except AddressError:
            continue
        if address is not None:
            assert harmless(str(address)) and len(str(address).encode()) <= 254
            assert not address.domain or Address.parse(str(address)) == address
            assert address.key and address.domain_key == address.domain_key.lower()
    try:
        assert all("@" in mailbox for mailbox in mailboxes_of(data))
    except AddressListError as error:
        assert len(str(error)) < 300


def parameters(data: bytes) -> None:
    """MAIL and RCPT: an envelope that can be kept and written, or a refusal that can be said."""
    data = data[:4000]  # a line is no longer
    for submission in (False, True):
        try:
            text = decode_line(data)
            envelope = parse_mail(text, smtputf8=True, submission=submission, max_hold=86400, now=NOW)
            assert harmless(str(envelope.reverse_path)) and (envelope.envid or "").isprintable()
        except ParameterRefused as refused:
            assert refused.reply.permanent and len(refused.reply.text) < 5000
        try:
            recipient = parse_rcpt(decode_line(data), smtputf8=True)
            assert recipient.original is None or recipient.original.address.isprintable()
        except ParameterRefused as refused:
            assert refused.reply.permanent


def headers(data: bytes) -> None:
    """Fields lie in order, none is lost, and what submission makes of them has no field that it takes away."""
    end = find_header_end(data) or len(data)
    block = HeaderBlock(data[:end])
    position = 0
    for field in block.fields:
        assert position <= field.start < field.value_start <= field.end <= end
        assert b"\r\n" not in block.value(field)
        position = field.end
    assert block.without({field.name for field in block.fields}).count(b"\r\n") <= 1 + len(block.problems) * 9999
    message_id_of(block)
    count_received(block)
    summarize(data[:end])
    for smtputf8 in (False, True):
        try:
            _submitted(block, smtputf8=smtputf8)
        except MalformedHeader as problem:
            assert len(str(problem)) < 500
    with contextlib.suppress(UnicodeDecodeError):  # fields in other charsets stay as they are
        data[:end].decode()
        assert surrogate(data[:end]).isascii()


def _submitted(block: HeaderBlock, *, smtputf8: bool) -> None:
    """A submitted header: mended once it needs no more mending, and it is complete."""
    prepared = prepare(block, sender=Address("a", "b.test"), smtputf8=smtputf8, names=("mx.here.test",))
    again = prepare(HeaderBlock(prepared.data), sender=None, smtputf8=smtputf8, names=("mx.here.test",))
    assert again.data == prepared.data and (smtputf8 or again.data.isascii())
    for address in read_originators(prepared):
        assert harmless(str(address))
    completed, _ = complete(prepared, trace=TRACE, hostname="mx.here.test", now=NOW)
    whole = HeaderBlock(completed)
    assert not whole.problems and not whole.count(b"bcc") and not whole.count(b"received-spf")
    assert whole.count(b"date") == whole.count(b"message-id") == whole.count(b"from") == 1


def received(data: bytes) -> None:
    """A field is a field, whatever a client calls itself."""
    text = data.decode("utf-8", "replace")
    field = received_field(
        Hop(text, "192.0.2.1", "mx.here.test", "ESMTPS", "TLSv1.3 TLS_AES_256_GCM_SHA384"), TRACE, NOW
    )
    assert passes_smtp(field) and [one.name for one in HeaderBlock(field).fields] == [b"received"]
    assert not HeaderBlock(field).problems


def encoded(data: bytes) -> None:
    """Values and dates as a person reads them."""
    assert isinstance(decode_value(data), str)
    decode_date(data)
    text_of_html(data.decode("utf-8", "replace"))
    parse_content_type(data)
    parse_disposition(data)


def structure(data: bytes) -> None:
    """Parts lie in each other and in order, not too deep; a person can read something."""
    root = scan_structure(data).root
    assert (root.start, root.end) == (0, len(data))
    deepest = 0
    for part in everything(root):
        deepest += 1
        assert part.start <= part.body <= part.end
        assert all(part.body <= child.start <= child.end <= part.end for child in part.parts)
        for name, _ in part.content_type.parameters:
            part.content_type.text(name.removesuffix("*"))
    assert deepest <= DEEPEST or len(root.parts) or root.is_message
    read_message(data)


def report(data: bytes) -> None:
    """Whatever peers said, a report passes SMTP, and has its parts and no others."""
    words = [piece.decode("utf-8", "surrogateescape") for piece in data.split(b"|", 7)]
    words += [""] * (8 - len(words))
    recipient = Recipient(Address(words[0] or "x", "there.test"), None, OriginalRecipient(words[1], words[2]))
    made = Report(
        action=list(Action)[len(data) % len(Action)],
        trace=TRACE,
        date=NOW,
        hostname="mx.here.test",
        to=Address.parse("alice@here.test"),
        about=TRACE,
        envelope=Envelope(None, envid=words[3] or None, ret=Ret.FULL),
        arrived=NOW,
        concerned=(
            Concerned(
                recipient, words[4] or "5.0.0", Reply(550, None, (words[5],)) if words[5] else None, words[6] or None
            ),
        )
        * (1 + len(data) % 3),
        header=data,
        content=data if len(data) % 2 else None,
        remote=words[7] or None,
    )
    octets = compose(made).octets
    assert passes_smtp(octets)
    found = scan_structure(octets)
    assert found.root.content_type.value == "multipart/report" and 2 <= len(found.root.parts) <= 3
    assert found.root.parts[0].content_type.value == "text/plain"
    assert found.root.parts[1].content_type.major == "message"
    assert octets[found.root.parts[-1].end :].startswith(b"\r\n--=_")
    names = [field.name for field in HeaderBlock(octets).fields]
    assert len(names) == len(set(names)) and not HeaderBlock(octets).problems


def answers(data: bytes) -> None:
    """An answer of a name server, of any kind, or none."""
    name = name_of("there.test")
    query = Query.of(name, Type.MX, 7)
    try:
        message = read_reply(query, data)
    except BadAnswer as error:
        assert len(str(error)) < 1000
        return
    if message is None:
        return
    for kind in (MX, A, AAAA, TXT):
        try:
            step = read_answer(message, name, kind)
        except BadAnswer as error:
            assert len(str(error)) < 1000
            continue
        assert step.ttl >= 0 and step.aliases <= 8 and len(step.records) <= MOST_RECORDS
        assert message.steps <= MOST_STEPS + 4  # one more for each time that it was refused
        for record in step.records:
            assert str(record).isascii()


SECRET = derive_keys("secret", b"salt", 4096)


def logins(data: bytes) -> None:
    """The server's side of every mechanism: messages, a line each, until one is refused."""
    messages = data.split(b"\n")
    claim = LoginClaim.of(messages[0].decode("utf-8", "replace"), "192.0.2.1", "PLAIN")
    assert not claim.key or harmless(claim.key)
    for server in (PlainServer(), LoginServer()):
        try:
            for message in messages:
                server.step(message)
        except SaslError as error:
            assert str(error).isprintable()
    scram = ScramServer(plus=data[:1] == b"p", bindings={"tls-exporter": b"x"}, nonce="server")
    try:
        scram.first(messages[0])
        scram.challenge(ScramKeys(b"salt", 4096, SECRET.stored_key, SECRET.server_key))
        scram.final(messages[1] if len(messages) > 1 else b"")
    except SaslError as error:
        assert str(error).isprintable()


def server_logins(data: bytes) -> None:
    """The client's side of SCRAM. Counts above 9999 cost time and tell nothing new."""
    client = ScramClient("bob", "secret", plus=False, nonce="client")
    client.start()
    try:
        for message in data.split(b"\n"):
            if not any(len(word) > 4 and word.isdigit() for word in message.replace(b"=", b",").split(b",")):
                client.step(message)
    except SaslError:
        return


def settings(data: bytes) -> None:
    """A configuration, or errors that name what is wrong, all on lines of their own."""
    try:
        parse(data, Path("/etc/waypost/waypost.toml"))
    except ConfigErrors as errors:
        assert errors.errors
        assert all(str(error).startswith("/etc/waypost/waypost.toml") for error in errors.errors)


def log_lines(data: bytes) -> None:
    """One event is one line that steers no terminal, whatever the facts say."""
    text = data.decode("utf-8", "surrogateescape" if len(data) % 2 else "replace")
    record = logging.LogRecord("waypost.x", logging.INFO, __file__, 1, "words of a peer", (), None)
    record.created = time.mktime((2026, 11, 24, 0, 0, 0, 0, 0, 0))
    record.fields = {"helo": text, "list": [text], text: 1}
    for formatter in (HumanFormatter(colour=False), JsonFormatter()):
        assert formatter.format(record).isprintable()


TARGETS = (
    Target(
        "addresses",
        (b"<bob@there.test>", b'<"a \\"b"@[IPv6:2001:db8::1]>', "<é@bücher.test>".encode(), b"<@x,@y:a@b.test> SIZE=1"),
        one(addresses),
        (b"@", b"<", b">", b'"', b"xn--", b"[", b"]", b"IPv6:", b"::", b"postmaster", b"\xe3\x80\x82", b"\xc3\x9f"),
        whole=True,
    ),
    Target(
        "parameters",
        (
            b"<a@b.test> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x+2By AUTH=<>",
            b"<a@b.test> HOLDFOR=5 BY=10;RT MT-PRIORITY=-4",
            b"<a@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+40b.test",
            b"<> HOLDUNTIL=2026-11-24T18:00:00Z BY=-5;N",
            b"<a@b.test> ORCPT=utf-8;\\x{E9}@b.test",
        ),
        one(parameters),
        (b" SIZE=", b" BODY=", b" NOTIFY=NEVER", b" ORCPT=", b"+0D+0A", b"\\x{", b"}", b" HOLDUNTIL=", b" BY=", b"<>"),
        whole=True,
    ),
    Target("headers", (HEADER, b"\r\n", b"A:\r\n\r\n"), one(headers), HEADER_WORDS, whole=True),
    Target("received", (b"client.test", b"[192.0.2.1]"), one(received), whole=True),
    Target(
        "encoded",
        (b"=?utf-8?q?a_=C3=A4?= =?utf-8?b?w6Q=?= x", b"Tue, 24 Nov 2026 12:00:00 +0000", b"<p>a &amp; b</p><!-- x -->"),
        one(encoded),
        (*HEADER_WORDS, *MIME_WORDS),
        whole=True,
    ),
    Target(
        "structure",
        (MIME, HEADER + b"hello", MIME.replace(b"mixed", b"digest")),
        one(structure),
        MIME_WORDS,
        whole=True,
    ),
    Target("report", (NAMES, HEADER + b"hello", MIME), one(report), (*MIME_WORDS, b"|"), whole=True),
    Target(
        "dns-answers",
        (
            wire("there.test. MX 10 mx.there.test.", "there.test. MX 0 .", 'there.test. TXT "v=spf1" "x"'),
            wire("there.test. CNAME a.test.", "a.test. CNAME b.test.", "b.test. MX 5 x.test.", "b.test. A 192.0.2.1"),
            wire("there.test. CNAME a.test.", "a.test. CNAME there.test.", "a.test. AAAA 2001:db8::1"),
            wire(rcode=3, authority="test. SOA a. b. 1 2 3 4 5"),
            wire(authority="there.test. NS a.test.", flags=0x8000),
            wire(flags=0x8380),
            *(b"\0\7" + octets[2:].replace(b"\4bomb\4test\0", b"\5there\4test\0", 1) for octets in BOMBS.values()),
        ),
        one(answers),
        (b"\xc0\x0c", b"\xc0\x00", b"\x00\x0f\x00\x01", b"\x00\x05\x00\x01", b"\x3f" + b"a" * 63, b"\x00\x07\x81\x80"),
        whole=True,
    ),
    Target(
        "sasl-server",
        (
            b"\0bob\0secret",
            b"bob\nsecret",
            SCRAM_FIRST + b"\n" + SCRAM_FINAL,
            b"p=tls-exporter,,n=a=2Cb,r=x\nc=cA==,r=xserver,p=AA==",
        ),
        one(logins),
        (b"n,,", b"y,,", b"p=tls-exporter,,", b"a=x", b"m=1,", b",r=", b",p=", b"=2C", b"=3D", b"\0"),
        whole=True,
    ),
    Target(
        "sasl-client",
        (b"r=clientx,s=c2FsdA==,i=4096\nv=" + b"A" * 43 + b"=", b"e=other-error", b"r=client,s=,i=1"),
        one(server_logins),
        (b"r=client", b",s=", b",i=4096", b"v=", b"e=", b"m=1,"),
        whole=True,
    ),
    Target(
        "settings",
        (CONFIGURATION, b"hostname = 1\n[tls]\n", b"a = [[[[1]]]]\nb = {c = {d = 1}}\n"),
        one(settings),
        (
            b"[[",
            b"]]",
            b"[",
            b"]",
            b"{",
            b"}",
            b"=",
            b'"""',
            b"'''",
            b"\\u0000",
            b"1979-05-27",
            b"1e400",
            b"\n",
            b"inf",
            b"true",
        ),
        whole=True,
    ),
    Target("log-lines", (b"mail.test", b'a b=c\n"d"'), one(log_lines), whole=True),
)
