"""How each error in a configuration reads."""

from pathlib import Path

import pytest

from waypost.config.load import ConfigErrors, load, parse
from waypost.config.reader import keys_of
from waypost.config.settings import Settings

FEWEST = 'hostname = "mx.example.org"\ndomains = ["example.org"]\ndata = "data"\n'


def errors(text: str | bytes) -> list[str]:
    """Return what a wrong configuration is told, in the file's own words."""
    with pytest.raises(ConfigErrors) as told:
        parse(text.encode() if isinstance(text, str) else text, Path("waypost.toml"))
    return [str(error) for error in told.value.errors]


WRONG = [
    # what stands behind FEWEST (lines 1 to 3), and what is told about it
    ('[queue]\nexpire = "5 dayz"', '5: queue.expire = "5 dayz": not a duration; write for example "5d" or "120h"'),
    ("[queue]\nexpire = 5", '5: queue.expire = 5: not a text; write for example "5m"'),
    ('[queue]\nexpire = "0s"', '5: queue.expire = "0s": must be longer than 0; write for example "1s"'),
    (
        '[queue]\nretry = [\n  "1m",\n  "soon",\n]',
        '7: queue.retry = "soon": not a duration; write for example "5d" or "120h"',
    ),
    ('[queue]\nretry = "1m"', '5: queue.retry = "1m": not an array; write ["1m"]'),
    ("[queue]\nretry = []", '5: queue.retry = []: empty; write for example ["1m", "5m", "30m", "2h"]'),
    (
        '[queue]\nretry = ["1m", "0s"]',
        '5: queue.retry = "0s": must be longer than 0; write for example "1s"',
    ),
    (
        '[queue]\nexpire = "2h"\ndelayed_notice = "2h"',
        '6: queue.delayed_notice = "2h": not before the message is returned (queue.expire, "2h"); write less, or "0s" '
        "for no notice",
    ),
    ("[queue]\njitter = 1.5", "5: queue.jitter = 1.5: not a number from 0 to 1; write for example 0.1"),
    ("[queue]\njitter = nan", "5: queue.jitter = nan: not a number from 0 to 1; write for example 0.1"),
    ("[queue]\nretri = 5", '5: queue.retri: no such key; did you mean "retry"?'),
    (
        "[queue]\nhostname = 5",
        "5: queue.hostname: no such key here; it belongs to the top of the file, above every [table]",
    ),
    (
        "[queue]\nallow_private_addresses = 1",
        "5: queue.allow_private_addresses: no such key here; it belongs to [outbound]",
    ),
    (
        "[mailbox]\nzzz = 5",
        "5: mailbox.zzz: no such key; known here are quota",
    ),
    ("[queues]\nretry = []", '4: queues: no such key; did you mean "queue"?'),
    ("queue = 5", "4: queue = 5: not a table; write [queue]"),
    ('"a\\nb" = 1', '4: "a\\nb": no such key; known here are ' + ", ".join(keys_of(Settings))),
    ("listener = 5", "4: listener: not an array of tables; write [[listener]] above the keys of each"),
    ("[listener]\nprotocol = 1", "4: listener: not an array of tables; write [[listener]] above the keys of each"),
    ('[[listener]]\naddress = "0.0.0.0:25"', '4: listener.protocol: missing; write for example protocol = "smtp"'),
    (
        '[[listener]]\nprotocol = "imap"\naddress = "0.0.0.0:143"',
        '5: listener.protocol = "imap": not one of the known ones; write "smtp", "submission", "submissions", '
        '"trusted-submission", "lmtp", "pop3" or "pop3s"',
    ),
    (
        '[[listener]]\nprotocol = "smtp"\naddress = "localhost:25"',
        '6: listener.address = "localhost:25": not an IP address with a port; write for example "0.0.0.0:25" or '
        '"[::]:25"',
    ),
    (
        '[[listener]]\nprotocol = "smtp"\naddress = "0.0.0.0:99999"',
        '6: listener.address = "0.0.0.0:99999": not a port; write a number from 0 to 65535',
    ),
    (
        '[[listener]]\nprotocol = "smtp"\naddress = "0.0.0.0:25"\n' * 2,
        '9: listener.address = "0.0.0.0:25": the listener in line 4 has it already; use another port',
    ),
    (
        '[[listener]]\nprotocol = "pop3s"\naddress = "0.0.0.0:995"',
        '5: listener.protocol = "pop3s": speaks TLS from the first byte, and there is no certificate; add a table '
        "[tls]",
    ),
    (
        '[[listener]]\nprotocol = "submission"\naddress = "0.0.0.0:587"',
        '5: listener.protocol = "submission": nobody can log in without TLS, and there is no certificate; add a table '
        "[tls]",
    ),
    ('[tls]\ncertificate = "c.pem"', '4: tls.key: missing; write for example key = "tls/key.pem"'),
    ('[tls]\ncertificate = ""\nkey = "k"', '5: tls.certificate = "": not a path; write for example "tls/cert.pem"'),
    (
        '[dns]\nservers = ["ns1"]',
        '5: dns.servers = "ns1": not an IP address, with a port or without; write for example "127.0.0.1" or '
        '"[::1]:53"',
    ),
    ("[outbound]\nport = 0", "5: outbound.port = 0: not a port; write a number from 1 to 65535"),
    ('[outbound]\nport = "25"', '5: outbound.port = "25": not a whole number; write for example 25'),
    (
        "[outbound]\nallow_private_addresses = 1",
        "5: outbound.allow_private_addresses = 1: neither true nor false; write one of them, without quotes",
    ),
    (
        '[outbound]\nsource_addresses = ["192.0.2.256"]',
        '5: outbound.source_addresses = "192.0.2.256": not an IP address; write for example "192.0.2.1" or '
        '"2001:db8::1"',
    ),
    (
        '[[outbound.source]]\nehlo = "mx.example.org"',
        '4: outbound.source.address: missing; write for example address = "192.0.2.1"',
    ),
    (
        '[[outbound.source]]\naddress = "192.0.2.1"\nehlo = "mx"',
        '6: outbound.source.ehlo = "mx": not a full host name; write it with its domain, for example "mx.example.org"',
    ),
    (
        '[[outbound.source]]\naddress = "192.0.2.1"\nehlo = "[192.0.2.1]"',
        "6: outbound.source.ehlo = \"[192.0.2.1]\": not a host name ('[' can't stand in it); write for example "
        '"mx.example.org"',
    ),
    (
        '[[outbound.source]]\naddress = "192.0.2.1:25"',
        '5: outbound.source.address = "192.0.2.1:25": not an IP address; write for example "192.0.2.1" or '
        '"2001:db8::1"',
    ),
    (
        '[[outbound.source]]\naddress = "::ffff:192.0.2.1"',
        '5: outbound.source.address = "::ffff:192.0.2.1": an IPv4 address in the form of IPv6; write "192.0.2.1"',
    ),
    (
        '[[outbound.source]]\naddress = "0.0.0.0"',
        '5: outbound.source.address = "0.0.0.0": every address and no single one; leave it out, and the system chooses',
    ),
    (
        '[[outbound.source]]\naddress = "ff02::1"',
        '5: outbound.source.address = "ff02::1": not an address of one host; write one that this machine has',
    ),
    (
        '[[outbound.source]]\naddress = "fe80::1"',
        '5: outbound.source.address = "fe80::1": a link-local address, which reaches no mail server; write a global '
        "one",
    ),
    (
        '[[outbound.source]]\naddress = "2001:db8::1"\n[[outbound.source]]\naddress = "2001:DB8:0::1"',
        '7: outbound.source.address = "2001:db8::1": the source in line 5 has it already; remove one',
    ),
    (
        '[[outbound.source]]\naddress = "192.0.2.1"\nwarm = "yes"',
        '6: outbound.source.warm = "yes": neither true nor false; write one of them, without quotes',
    ),
    (
        '[outbound]\nsource = "192.0.2.1"',
        "5: outbound.source: not an array of tables; write [[outbound.source]] above the keys of each",
    ),
    (
        '[outbound]\nsource_addresses = ["192.0.2.1"]\n[[outbound.source]]\naddress = "192.0.2.2"',
        "5: outbound.source_addresses: the sources are in tables [[outbound.source]] already; write these addresses "
        "there too, or remove them",
    ),
    (
        'ehlo = "mx.example.org"',
        "4: ehlo: no such key here; it belongs to [outbound.source]",
    ),
    (
        '[limits]\nmessage_size = "50 MB"',
        '5: limits.message_size = "50 MB": not a size; write a number of octets, or for example "50 MiB" (KiB, MiB, '
        "GiB or TiB)",
    ),
    (
        "[limits]\nmessage_size = true",
        '5: limits.message_size = true: not a size; write a number of octets, or for example "50 MiB"',
    ),
    ("[limits]\nerrors = 0", "5: limits.errors = 0: too small; write 1 or more"),
    ("[limits]\nerrors = 1.5", "5: limits.errors = 1.5: not a whole number; write for example 25"),
    (
        '[limits]\nexempt_networks = ["10.0.0.1/8"]',
        '5: limits.exempt_networks = "10.0.0.1/8": has bits set after its prefix; write "10.0.0.0/8"',
    ),
    (
        '[reception]\nsubaddress_separator = "++"',
        '5: reception.subaddress_separator = "++": not a separator; write one character that may stand in an address, '
        'for example "+", or ""',
    ),
    (
        '[reception]\npostmaster = "bob"',
        '5: reception.postmaster = "bob": not a mail address (there is no @); write for example "alice@example.org"',
    ),
    (
        "[submission]\nsend_as = 5",
        '5: submission.send_as = 5: not a table; write for example { "alice@example.org" = ["sales@example.org"] }',
    ),
    (
        '[submission.send_as]\nalice = ["@example.org"]',
        '5: submission.send_as.alice = ["@example.org"]: the account is not a mail address (there is no @); write for '
        'example "alice@example.org"',
    ),
    (
        '[submission.send_as]\n"alice@example.org" = "sales@example.org"',
        '5: submission.send_as."alice@example.org" = "sales@example.org": not an array; write ["sales@example.org"]',
    ),
    (
        '[submission.send_as]\n"alice@example.org" = [\n"sales",\n]',
        '6: submission.send_as."alice@example.org" = "sales": not a sender; write for example "sales@example.org", or '
        '"@example.org" for all',
    ),
    (
        '[[route]]\ndomains = []\nhost = "relay.example.net"',
        '5: route.domains: empty; write for example ["example.org"], or ["*"] for a smart host',
    ),
    (
        '[[route]]\ndomains = ["*"]\nhost = "a.example"\n[[route]]\nhost = "b.example"\n'
        'domains = [\n  "x.example",\n  "*"]',
        '11: route.domains = "*": it has a route in line 5 already; remove one',
    ),
    (
        '[[route]]\ndomains = ["*"]\nhost = "relay.example.net"\nusername = "u"',
        "7: route.username: a login needs a password too; add password_file, a file that holds it",
    ),
    (
        '[[route]]\ndomains = ["*"]\nhost = "relay.example.net"\npassword_file = "p"',
        "7: route.password_file: a password needs a user too; add username",
    ),
    (
        '[[route]]\ndomains = ["*"]\nhost = "relay.example.net"\nusername = "u"\npassword_file = "p"\ntls = "none"',
        '9: route.tls: a login needs TLS; write "required" or "implicit"',
    ),
    (
        '[[route]]\ndomains = ["*"]\nhost = "192.0.2.1"',
        '6: route.host = "192.0.2.1": not a host (its last label is a number); write a name, for example '
        '"relay.example.net", or an IP address in brackets, for example "[192.0.2.1]"',
    ),
    (
        '[service]\nuser = ""',
        '5: service.user = "": empty, or with characters that can\'t be printed; write a text without them',
    ),
    ("[service]\nworkers = -1", "5: service.workers = -1: too small; write 0 or more"),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[told for _, told in WRONG])
def test_an_error_names_file_line_key_value_and_what_would_be_right(text: str, told: str) -> None:
    assert errors(FEWEST + text) == [f"waypost.toml:{told}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "",
            [
                '1: hostname: missing; write for example hostname = "mx.example.org"',
                '1: domains: missing; write for example domains = ["example.org"]',
                '1: data: missing; write for example data = "data"',
            ],
        ),
        (
            FEWEST.replace('"mx.example.org"', '"mx"'),
            ['1: hostname = "mx": not a full host name; write it with its domain, for example "mx.example.org"'],
        ),
        (
            FEWEST.replace('["example.org"]', '["example.org", "EXAMPLE.org"]'),
            ['2: domains = "example.org": there twice; write it once'],
        ),
        (
            FEWEST.replace('["example.org"]', '["a_b.example"]'),
            [
                "2: domains = \"a_b.example\": not a domain name ('_' can't stand in it); "
                'write for example "example.org"'
            ],
        ),
    ],
)
def test_errors_at_the_top_are_told(text: str, told: list[str]) -> None:
    assert errors(text) == [f"waypost.toml:{line}" for line in told]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            b"a = 1\nb = = 2\n",
            'waypost.toml:2: not TOML in column 5: not a value: a text stands in quotes, as in "mx.example.org"',
        ),
        (
            b"a = 1\nb = [1,\n",
            "waypost.toml:3: not TOML at the end of the file: not a value: a text stands in quotes, "
            'as in "mx.example.org"',
        ),
        (b"a = 1\na = 2\n", "waypost.toml:2: not TOML in column 6: this key has a value already; write it once"),
        (b"a = 1\n# caf\xe9\n", "waypost.toml:2: not UTF-8; save the file in this encoding"),
        (b"a = " + b"[" * 100_000, "waypost.toml: not usable: arrays or tables are nested too deep"),
    ],
)
def test_what_is_no_toml_is_told_where(data: bytes, told: str) -> None:
    assert errors(data) == [told]


def test_a_number_of_thousands_of_digits_is_an_error() -> None:
    [told] = errors(FEWEST + "[queue]\njitter = " + "9" * 10_000)
    assert told == "waypost.toml:5: not usable: a number has thousands of digits"
    [told] = errors(FEWEST + "[queue]\njitter = " + "9" * 4_000)
    assert "queue.jitter = a number of more than 100 digits: not a number from 0 to 1" in told


def test_all_errors_are_told_at_once_in_the_order_of_their_lines() -> None:
    told = errors(
        'hostname = "mx"\n[queue]\nretri = 1\nexpire = "x"\n[[listener]]\nprotocol = "pop3s"\naddress = "[::]:995"\n'
        '[[listener]]\n[[listener]]\nprotocol = "smtp"\naddress = "[::]:995"\n'
    )
    assert [line.split(": ")[:2] for line in told] == [
        ["waypost.toml:1", 'hostname = "mx"'],
        ["waypost.toml:1", "domains"],
        ["waypost.toml:1", "data"],
        ["waypost.toml:3", "queue.retri"],
        ["waypost.toml:4", 'queue.expire = "x"'],
        ["waypost.toml:6", 'listener.protocol = "pop3s"'],
        ["waypost.toml:8", "listener.protocol"],
        ["waypost.toml:8", "listener.address"],
        ["waypost.toml:11", 'listener.address = "[::]:995"'],
    ]


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as told:
        load(tmp_path / "waypost.toml")
    assert str(told.value) == f"{tmp_path}/waypost.toml: can't be read: No such file or directory"


def test_the_value_of_an_unknown_key_is_never_shown() -> None:
    told = errors(FEWEST + '[[route]]\ndomains = ["*"]\nhost = "a.example"\npassword = "white-rabbit"')
    assert told == ['waypost.toml:7: route.password: no such key; did you mean "password_file"?']


def test_a_long_value_is_cut_and_control_characters_are_escaped() -> None:
    [told] = errors(FEWEST + '[queue]\nexpire = "\\u001b[2J\\u202e' + "x" * 1000 + '"')
    assert told.startswith('waypost.toml:5: queue.expire = "\\u001b[2J\\u202exxx') and len(told) < 200
    assert told.isprintable()
