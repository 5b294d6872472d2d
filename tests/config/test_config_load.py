"""The configuration file: what it gives, whatever stands in it."""

import dataclasses
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.config import settings
from waypost.config.kinds import kind_of
from waypost.config.load import ConfigErrors, load, parse
from waypost.config.reader import FileKey, keys_of
from waypost.config.settings import (
    DAY,
    HOUR,
    KIB,
    MIB,
    MINUTE,
    Dns,
    EgressSource,
    Listener,
    ListenerProtocol,
    Route,
    Settings,
    TlsPolicy,
)
from waypost.config.toml_text import value_text

FEWEST = 'hostname = "mx.example.org"\ndomains = ["example.org"]\ndata = "data"\n'
TLS = '[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\n'


def read(text: str) -> Settings:
    return parse(text.encode(), Path("/etc/waypost/waypost.toml")).settings


def test_the_fewest_keys_are_three_and_the_rest_has_defaults() -> None:
    found = read(FEWEST)
    assert (found.hostname, found.domains, found.listeners, found.tls) == ("mx.example.org", ("example.org",), (), None)
    assert found.queue == settings.QueueSettings() and found.limits == settings.Limits()


def test_relative_paths_begin_at_the_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "waypost.toml").write_text(FEWEST + TLS.replace("tls/key", "/keys/key"))
    monkeypatch.chdir(tmp_path)
    found = load(Path("etc/waypost.toml"))
    assert found.path == tmp_path / "etc" / "waypost.toml"
    assert found.data == tmp_path / "etc" / "data"
    assert found.tls is not None and found.tls.certificate == tmp_path / "etc" / "tls" / "cert.pem"
    assert found.tls.key == Path("/keys/key.pem")


def test_every_fixed_name_is_read() -> None:
    found = read(
        'hostname = "MX.example.org"\n'
        'domains = ["Example.org", "bücher.example"]\n'
        'data = "data"\n'
        '[[listener]]\nprotocol = "smtp"\naddress = "0.0.0.0:25"\nproxy_protocol = ["192.0.2.0/24"]\n'
        '[[listener]]\nprotocol = "pop3s"\naddress = "[::]:995"\n'
        + TLS
        + '[dns]\nservers = ["127.0.0.1:5353", "::1"]\n'
        '[outbound]\nport = 2525\nallow_private_addresses = true\nsource_addresses = ["192.0.2.1"]\n'
        '[queue]\nretry = ["500ms", "1m", "2h"]\ndelayed_notice = "0s"\nexpire = "5d"\n'
        '[limits]\nmessage_size = "10 MiB"\nheader_size = 65536\n'
        '[submission.send_as]\n"Alice@example.org" = ["sales@example.org", "@Example.net"]\n'
        '[reception]\nsubaddress_separator = ""\npostmaster = "Alice@example.org"\ngreeting_delay = "2s"\n'
        '[[route]]\ndomains = ["*"]\nhost = "[192.0.2.9]"\nport = 587\ntls = "required"\n'
        'username = "u"\npassword_file = "secret"\n'
    )
    assert found.hostname == "mx.example.org"
    assert found.domains == ("example.org", "xn--bcher-kva.example")
    assert found.listeners == (
        Listener(ListenerProtocol.SMTP, ip_address("0.0.0.0"), 25, (ip_network("192.0.2.0/24"),)),
        Listener(ListenerProtocol.POP3S, ip_address("::"), 995),
    )
    assert found.dns == Dns(servers=((ip_address("127.0.0.1"), 5353), (ip_address("::1"), 53)))
    assert (found.outbound.port, found.outbound.allow_private_addresses) == (2525, True)
    assert found.outbound.source_addresses == (ip_address("192.0.2.1"),)
    assert found.queue.retry == (500_000, MINUTE, 2 * HOUR)
    assert (found.queue.delayed_notice, found.queue.expire) == (0, 5 * DAY)
    assert (found.limits.message_size, found.limits.header_size) == (10 * MIB, 64 * KIB)
    assert found.submission.send_as == (("alice@example.org", ("sales@example.org", "@example.net")),)
    assert (found.reception.subaddress_separator, found.reception.postmaster) == ("", "alice@example.org")
    assert found.routes == (
        Route(
            ("*",),
            "[192.0.2.9]",
            port=587,
            tls=TlsPolicy.REQUIRED,
            username="u",
            password_file=Path("/etc/waypost/secret"),
        ),
    )


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read(FEWEST).hostname = "other.example.org"  # type: ignore[misc]


def test_port_0_may_be_listened_on_twice() -> None:
    assert len(read(FEWEST + '[[listener]]\nprotocol = "smtp"\naddress = "127.0.0.1:0"\n' * 2).listeners) == 2


def good_values() -> dict[str, dict[str, str | None]]:
    """Return every key of the configuration by its table, with a good value as TOML where the default is one."""

    def of(table: type[Any]) -> dict[str, str | None]:
        keys = keys_of(table).values()
        return {key.name: None if key.required or key.field.default is None else written(key) for key in keys}

    def written(key: FileKey) -> str | None:
        return None if key.table else kind_of(key.annotation).write(key.field.default)

    return {"": of(Settings)} | {name: of(key.table) for name, key in keys_of(Settings).items() if key.table}


@pytest.mark.parametrize("table", [Settings, *(key.table for key in keys_of(Settings).values() if key.table)])
def test_every_default_is_written_as_it_is_read(table: type[Any]) -> None:
    for key in keys_of(table).values():
        default = key.field.default
        if key.table is None and default is not dataclasses.MISSING and default is not None:
            kind = kind_of(key.annotation)
            value = tomllib.loads(f"value = {kind.write(default)}")["value"]
            assert kind.read(value, Path("/")) == default, key.name


JSON_LIKE = st.recursive(
    st.none().map(lambda _: True)
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["5m", "50 MiB", "0.0.0.0:25", "smtp", "a@b.example", "example.org", "*", "[::1]", "10.0.0.0/8"])
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["a@b.c"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A document with known keys, each with a good value or with any."""
    lines = [FEWEST if draw(st.booleans()) else ""]
    tables = good_values()
    for table in sorted(draw(st.sets(st.sampled_from(sorted(tables)), max_size=3))):
        keys = tables[table]
        lines.append(f"[[{table}]]\n" if table in ("listener", "route") else f"[{table}]\n" if table else "")
        for key in draw(st.lists(st.sampled_from(sorted(keys)), max_size=3, unique=True)):
            good = keys[key]
            value = good if good is not None and draw(st.integers(0, 9)) else value_text(draw(JSON_LIKE))
            lines.append(f"{key} = {value}\n")
    return "".join(lines)


@given(documents() | st.text())
def test_no_text_brings_anything_but_settings_or_errors(text: str) -> None:
    try:
        assert isinstance(parse(text.encode(errors="replace"), Path("waypost.toml")).settings, Settings)
    except ConfigErrors as told:
        assert told.errors and "\n" not in str(told.errors[0])


@given(st.binary())
def test_no_bytes_bring_anything_but_settings_or_errors(data: bytes) -> None:
    try:
        parse(data, Path("waypost.toml"))
    except ConfigErrors as told:
        assert told.errors


def test_sources_of_mail_are_read() -> None:
    found = read(
        FEWEST
        + '[[outbound.source]]\naddress = "192.0.2.1"\nehlo = "Out1.example.org"\n'
        + '[[outbound.source]]\naddress = "2001:db8::1"\nwarm = false\n'
    )
    assert found.outbound.egress == (
        EgressSource(ip_address("192.0.2.1"), "out1.example.org", True),
        EgressSource(ip_address("2001:db8::1"), None, False),
    )


def test_the_source_addresses_of_version_0_1_0_are_sources() -> None:
    found = read(FEWEST + '[outbound]\nsource_addresses = ["192.0.2.1", "2001:db8::1", "192.0.2.1"]\n')
    assert [source.address for source in found.outbound.egress] == [ip_address("192.0.2.1"), ip_address("2001:db8::1")]
    assert all(source.ehlo is None and source.warm for source in found.outbound.egress)


def test_without_sources_the_system_chooses() -> None:
    assert read(FEWEST).outbound.egress == ()
