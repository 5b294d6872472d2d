"""What the parsers are made to read: well formed examples, and words that they know, for mutations to begin with."""

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

from waypost.config.template import configuration


def wire(*records: str, flags: int = 0x8180, rcode: int = 0, authority: str = "") -> bytes:
    """Return an answer of a name server to the question for the MX of there.test."""
    query = dns.message.make_query("there.test", dns.rdatatype.MX, id=7)
    message = dns.message.make_response(query, recursion_available=True)
    message.flags = dns.flags.Flag(flags)
    message.set_rcode(rcode)
    for record in records:
        owner, kind, *rest = record.split(" ", 2)
        message.answer.append(dns.rrset.from_text(owner, 300, "IN", kind, " ".join(rest)))
    if authority:
        owner, kind, rest = authority.split(" ", 2)
        message.authority.append(dns.rrset.from_text(owner, 300, "IN", kind, rest))
    return message.to_wire()


SCRAM_FIRST, SCRAM_FINAL = b"n,,n=bob,r=client", b"c=biws,r=clientserver,p=" + b"A" * 43 + b"="
HEADER = (
    b"Received: from a ([192.0.2.1])\r\n\tby mx.here.test (Waypost) with ESMTP\r\n\tid x;"
    b" Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    b'From: "Alice" (a comment) <alice@here.test>, Friends: bob@there.test;\r\nSender: alice@here.test\r\n'
    b"To: =?utf-8?q?B=C3=B6b?= <bob@there.test>, \xc3\xa9lise@there.test\r\nBcc: x@y.test\r\nSubject: tea\r\n five\r\n"
    b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@here.test>\r\n\r\n"
)
MIME = (
    b'Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/alternative; boundary="i"\r\n\r\n'
    b"--i\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=FC\r\n"
    b"--i\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPHA+eDwvcD4=\r\n--i--\r\n--o\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nhello\r\n--o\r\nContent-Type: image/png;"
    b"\r\n name*0*=utf-8''%c3;"
    b'\r\n name*1=x\r\nContent-Disposition: attachment; filename="a.png"\r\n\r\n\x89PNG\r\n--o--\r\n'
)
MIME_WORDS = (
    *(
        b"Content-Type: ",
        b"multipart/mixed; boundary=o",
        b"multipart/digest; boundary=i",
        b"message/rfc822",
        b"text/html",
    ),
    *(
        b"--o\r\n",
        b"--i\r\n",
        b"--o--\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"; charset=punycode",
        b"; name*0*=",
    ),
    *(b"Content-Disposition: attachment; filename=", b"<p>", b"<!--", b"&#", b"=?utf-8?b?", b"?=", b"=\r\n"),
)
HEADER_WORDS = (
    *(
        b"From: ",
        b"To: ",
        b"Sender: ",
        b"Bcc: x\r\n",
        b"Received: x\r\n",
        b"Message-ID: <",
        b"\r\n ",
        b"\r\n\t",
        b"=?utf-8?q?",
    ),
    *(b"=?x?b?", b"?=", b"group: ", b"alice@here.test", b"<alice@here.test>", b'"a b"@here.test', b"\xc3\xa9"),
)
CONFIGURATION = (
    configuration(hostname="mx.here.test", domains=("here.test", "there.test")).encode()
    + b'[limits]\nmessage_size = "50 MiB"\n'
    + b'exempt_networks = ["10.0.0.0/8"]\n[queue]\nretry = ["1m", "5m"]\njitter = 0.5\n'
    + b'[[route]]\ndomains = [".x.test"]\nhost = "[192.0.2.1]"\ntls = "required"\n'
    + b"[submission.send_as]\n\"a@here.test\" = ['b@here.test', '''@there.test''']\n"
)
NAMES = b"550 5.1.1 no\r\nAction: delivered|rfc822|bob@there.test|envid|5.1.1|550 no such user|timed out|mx.there.test"
