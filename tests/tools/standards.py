"""Writes docs/standards.md: every RFC, how far it is supported, and the files that cite it.

    python tests/tools/standards.py > docs/standards.md

The verdicts stand in the table below; where the code is, is found in the code. `tests/docs/test_standards.py` keeps
the page current, and the table complete.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

FULL, PARTLY = "full", "partly"

RFCS: tuple[tuple[str, tuple[tuple[int, str, str, str], ...]], ...] = (
    (
        "Mail and its envelope",
        (
            (
                5321,
                "Simple Mail Transfer Protocol",
                FULL,
                "server and client; VRFY answers 252, EXPN 502; source routes are dropped",
            ),
            (
                5322,
                "Internet Message Format",
                PARTLY,
                "header fields, addresses, dates; only what a submitter wrote is mended",
            ),
            (5598, "Internet Mail Architecture", FULL, "the names of the stations"),
            (2033, "LMTP", FULL, "as a listener, and along a route"),
            (6409, "Message Submission", FULL, "login required; what is unambiguous is mended, what is missing added"),
            (8314, "Cleartext Considered Obsolete", FULL, "465 and 995; no password without TLS"),
            (2142, "Mailbox Names for Common Services", PARTLY, "postmaster and abuse always lead to somebody"),
            (9228, "Delivered-To", FULL, "written at delivery; loops are told by Received"),
            (3848, "ESMTP and LMTP Transmission Types", FULL, "the `with` of Received"),
            (7504, "SMTP 521 and 556", PARTLY, "understood as a client; never said as a server"),
            (7505, "Null MX", PARTLY, "mail to such a domain is returned at once; its senders are not refused"),
            (3834, "Automatic Responses", PARTLY, "reports say Auto-Submitted: auto-replied"),
            (8098, "Message Disposition Notifications", PARTLY, "submitted with MAIL FROM:<>; none are made here"),
        ),
    ),
    (
        "SMTP extensions",
        (
            (1870, "SIZE", FULL, "a declared size is checked against the limit and the quota"),
            (2034, "ENHANCEDSTATUSCODES", FULL, "every reply that may have a code has one"),
            (3463, "Enhanced Mail System Status Codes", FULL, ""),
            (5248, "Registry of Status Codes", FULL, ""),
            (7372, "Authentication Status Codes", PARTLY, "codes of what is checked so far"),
            (
                2852,
                "DELIVERBY",
                FULL,
                "offered on every way in; port 25 promises no deadline for what goes on elsewhere",
            ),
            (2920, "PIPELINING", FULL, "server and client"),
            (3030, "CHUNKING and BINARYMIME", FULL, "server and client"),
            (3207, "STARTTLS", FULL, "server and client"),
            (3461, "DSN", FULL, "offered to submitters; from strangers a wish for success is not granted"),
            (4865, "FUTURERELEASE", FULL, "offered to submitters, up to 30 days; passed on"),
            (2554, "AUTH, first version", PARTLY, "as a client, the form AUTH= that came before it"),
            (4954, "AUTH", FULL, "server and client; the parameter AUTH= is read, not believed, not passed on"),
            (6152, "8BITMIME", FULL, "no conversion to 7 bit: returned where the next hop lacks it"),
            (6531, "SMTPUTF8", FULL, "server and client"),
            (6532, "Internationalized Headers", FULL, "passed on; returned where the next hop lacks it"),
            (6710, "MT-PRIORITY", FULL, "offered to submitters, from -4 to 4; orders the queue; passed on"),
            (9422, "LIMITS", FULL, "MAILMAX and RCPTMAX, offered and honoured; a transaction never has two domains"),
        ),
    ),
    (
        "Reports",
        (
            (3464, "Delivery Status Notifications", FULL, "failed, delayed, delivered, relayed, expanded"),
            (6522, "multipart/report", FULL, ""),
            (
                6533,
                "Internationalized Delivery Status Notifications",
                FULL,
                "where an address or the header is outside ASCII",
            ),
        ),
    ),
    (
        "Authentication of people",
        (
            (4422, "SASL", FULL, ""),
            (4616, "PLAIN", FULL, ""),
            (5802, "SCRAM", PARTLY, "with SHA-256 only"),
            (5803, "SCRAM secrets", PARTLY, "what is kept of a password, not its textual form"),
            (7677, "SCRAM-SHA-256", FULL, "and -PLUS"),
            (5929, "Channel Bindings for TLS", PARTLY, "tls-server-end-point, on both sides"),
            (
                9266,
                "Channel Bindings for TLS 1.3",
                PARTLY,
                "tls-exporter for logins here, over TLS 1.3; as a client, tls-server-end-point",
            ),
            (4013, "SASLprep", PARTLY, "code points newer than Unicode 3.2 pass unchanged"),
            (3454, "stringprep", PARTLY, "as SASLprep uses it"),
            (8265, "PRECIS", PARTLY, "not used: SASLprep prepares for all mechanisms alike"),
            (9106, "Argon2", FULL, "argon2id, 64 MiB, three passes, one lane"),
        ),
    ),
    (
        "POP3",
        (
            (1939, "POP3", FULL, "without APOP, which is optional"),
            (2449, "CAPA", FULL, ""),
            (2595, "STLS", FULL, "its part for POP3"),
            (3206, "SYS and AUTH response codes", FULL, ""),
            (5034, "AUTH", FULL, ""),
            (6856, "UTF8", PARTLY, "UTF8 and UTF8 USER; no LANG"),
            (6857, "Post-delivery downgrading", PARTLY, "a surrogate header for clients without UTF8"),
            (6858, "Simplified downgrading", PARTLY, "its manner: a surrogate header for clients without UTF8"),
        ),
    ),
    (
        "The mailbox",
        (
            (9051, "IMAP4rev2", PARTLY, "its data model: UIDVALIDITY, UIDs, flags, internal date"),
            (7162, "CONDSTORE and QRESYNC", PARTLY, "MODSEQ and expunged UIDs are kept"),
        ),
    ),
    (
        "The form of a message",
        (
            (2045, "MIME: bodies", PARTLY, "written in reports and by `send`; read by `fetch show`"),
            (2046, "MIME: media types", PARTLY, "multipart and message types, as above"),
            (2047, "Encoded words", FULL, "written and read; added where a submission has raw UTF-8"),
            (2049, "MIME: canonical form", PARTLY, "CRLF lines in POP3, whatever is stored"),
            (2183, "Content-Disposition", PARTLY, "the disposition and the file name"),
            (
                1847,
                "multipart/signed",
                PARTLY,
                "a signed part arrives as it was signed; no signature is made or verified",
            ),
            (2387, "multipart/related", PARTLY, "the root is shown, the others listed"),
            (2231, "Parameter values", PARTLY, "parameters with a character set, and in pieces"),
            (3339, "Date and time", PARTLY, "in HOLDUNTIL"),
            (4155, "The mbox format", PARTLY, "its first line is left out of a submission"),
            (6854, "Groups in From and Sender", FULL, "read; written in surrogate headers"),
            (7208, "SPF", PARTLY, "not checked yet; nobody submits a Received-SPF field"),
            (
                8601,
                "Authentication-Results",
                PARTLY,
                "iprev alone, in Received and journal; none with our names is taken from users and strangers",
            ),
        ),
    ),
    (
        "DNS",
        (
            (1034, "Domain names: concepts", PARTLY, "a stub resolver"),
            (1035, "Domain names: implementation", PARTLY, "a stub resolver; the lab's name server"),
            (2308, "Negative caching", FULL, "by the SOA"),
            (4035, "DNSSEC protocol", PARTLY, "the AD bit is surfaced; nothing is validated here"),
            (
                5452,
                "Resilience against forged answers",
                FULL,
                "a random id, a socket a question, the question compared",
            ),
            (2181, "Clarifications to DNS", PARTLY, "one TTL for a set of records; no TTL above 31 bits"),
            (3596, "AAAA", FULL, "asked for beside A"),
            (4074, "Misbehaviour against AAAA", FULL, "a denied name is believed when all questions deny it"),
            (6604, "RCODE and CNAME", FULL, "the code is about the last name"),
            (6840, "DNSSEC clarifications", PARTLY, "AD is asked for"),
            (6891, "EDNS", FULL, "asked for; servers that drop, refuse or spoil it are asked without it"),
            (2671, "EDNS0, the first version", PARTLY, "what its servers answer to who knows EDNS"),
            (7766, "DNS over TCP", PARTLY, "when an answer is truncated; one question a connection"),
            (8020, "NXDOMAIN", PARTLY, "believed of A and AAAA when both say so (RFC 4074)"),
            (9520, "Caching of failures", FULL, "five seconds"),
            (9715, "Avoiding IP fragmentation", FULL, "the size that is announced"),
        ),
    ),
    (
        "TLS and names",
        (
            (
                7435,
                "Opportunistic Security",
                FULL,
                "TLS where it is offered, with any certificate and any suite that is better than none",
            ),
            (7919, "Diffie-Hellman groups", PARTLY, "ffdhe2048 on port 25"),
            (8446, "TLS 1.3", PARTLY, "OpenSSL's; what a server refuses after the handshake is understood"),
            (8996, "No TLS 1.0 and 1.1", FULL, "1.2 at least, on both sides"),
            (5280, "Certificates", PARTLY, "the self-signed one of `init`; OpenSSL checks the others"),
            (9525, "Service identity", FULL, "alternative names alone count, with one wildcard label"),
            (5890, "IDNA", PARTLY, "A-labels in storage and in DNS; U-labels are understood everywhere"),
        ),
    ),
    (
        "IP and clocks",
        (
            (1122, "Requirements for hosts", PARTLY, "how a connection is closed"),
            (4291, "IPv6 addressing", PARTLY, "which addresses are public; IPv4-mapped ones are IPv4"),
            (5905, "NTP", PARTLY, "a clock that is slewed was not set"),
            (
                6890,
                "Special-purpose addresses",
                FULL,
                "nothing is relayed to them unless the operator says so; and so to",
            ),
            (1918, "private IPv4 networks", FULL, ""),
            (2544, "the benchmark network", FULL, ""),
            (2928, "special IPv6 assignments", FULL, ""),
            (3056, "6to4", FULL, "judged by the IPv4 address inside"),
            (3849, "the IPv6 documentation prefix", FULL, ""),
            (3927, "link-local IPv4", FULL, ""),
            (5737, "the documentation networks", FULL, ""),
            (6052, "NAT64", FULL, "judged by the IPv4 address inside"),
            (6598, "shared address space", FULL, ""),
            (7526, "6to4 relays", FULL, ""),
            (9637, "the second documentation prefix", FULL, ""),
        ),
    ),
)

HEAD = """\
# Standards

What Waypost supports, how far, and where. Made by `python tests/tools/standards.py > docs/standards.md` from the
verdicts in that file and the citations in the code; `make rfc N=5321` prints every place that cites an RFC.

*full*: all that a program of this kind must do. *partly*: what the remark says. Not in this table, because not here
yet: IMAP (but for its data model), Sieve, SPF, DKIM, DMARC, ARC, MTA-STS and DANE.
"""

_CITATION = re.compile(r"RFC (\d{3,5}(?:(?:, | and )\d{4}\b)*)")
"""`RFC 5321 4.5.3.1`, and lists such as `RFC 2928, 3849, 9637`."""


def citations() -> dict[int, list[str]]:
    """Return, for each RFC number, the files under src/ that cite it, as paths inside `src/waypost`."""
    found: dict[int, set[str]] = defaultdict(set)
    source = ROOT / "src" / "waypost"
    for path in sorted((*source.rglob("*.py"), *source.rglob("*.sql"))):
        for cited in _CITATION.findall(path.read_text()):
            for number in re.findall(r"\d+", cited):
                found[int(number)].add(str(path.relative_to(source)))
    return {number: sorted(paths) for number, paths in found.items()}


def lines() -> Iterator[str]:
    """Yield the page, line by line."""
    where = citations()
    yield HEAD
    for title, rows in RFCS:
        yield f"## {title}\n"
        yield "| RFC | what | support | where |"
        yield "|---|---|---|---|"
        for number, name, support, remark in rows:
            paths = where.get(number, [])
            shown = ", ".join(f"`{path}`" for path in paths[:4]) + (" …" if len(paths) > 4 else "")
            verdict = f"{support}: {remark}" if remark else support
            yield f"| [{number}](https://www.rfc-editor.org/rfc/rfc{number}) | {name} | {verdict} | {shown} |"
        yield ""


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()))
