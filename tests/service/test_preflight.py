"""What a configuration names outside itself is looked at, and what is wrong is told by line and key."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from waypost.config.load import ConfigErrors, load_document
from waypost.service.machine.certificates import self_signed
from waypost.service.machine.preflight import Preflight, preflight

NOW = datetime(2026, 11, 25, 1, 7, tzinfo=UTC)
FEWEST = 'hostname = "mx.example.org"\ndomains = ["example.org"]\ndata = "data"\n'
TLS = '[tls]\ncertificate = "cert.pem"\nkey = "key.pem"\n'
ROUTE = '[[route]]\ndomains = ["*"]\nhost = "relay.example.net"\nusername = "u"\npassword_file = "secret"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file, data in zip(("cert.pem", "key.pem"), self_signed(["mx.example.org"], NOW), strict=True):
        (tmp_path / file).write_bytes(data)
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").write_text("white-rabbit\n")
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


def look(folder: Path, text: str, now: datetime = NOW) -> Preflight:
    (folder / "waypost.toml").write_text(text)
    return preflight(load_document(folder / "waypost.toml"), now)


def errors(folder: Path, text: str, now: datetime = NOW) -> list[str]:
    with pytest.raises(ConfigErrors) as told:
        look(folder, text, now)
    return [str(error).replace(str(folder), "etc") for error in told.value.errors]


def test_everything_in_its_place_gives_the_certificate(folder: Path) -> None:
    found = look(folder, FEWEST + TLS + ROUTE)
    assert found.certificate is not None and found.certificate.names == ("mx.example.org",)
    assert len(found.notes) == 2 and "self-signed" in found.notes[0] and "RSA" in found.notes[1]


def test_a_second_pair_is_looked_at_like_the_first(folder: Path) -> None:
    second = TLS + 'second_certificate = "rsa.pem"\nsecond_key = "rsa-key.pem"\n'
    assert errors(folder, FEWEST + second) == [
        'etc/waypost.toml:7: tls.second_certificate = "rsa.pem": etc/rsa.pem can\'t be read: No such file or directory'
    ]
    for file, data in zip(("rsa.pem", "rsa-key.pem"), self_signed(["mx.example.org"], NOW, rsa=True), strict=True):
        (folder / file).write_bytes(data)
        (folder / file).chmod(0o600)
    assert not any("RSA" in note for note in look(folder, FEWEST + second).notes)
    assert look(folder, FEWEST + second, NOW + timedelta(days=3640)).notes[-1] == (
        "the second certificate expires soon, on 2036-11-22"
    )
    (folder / "rsa-key.pem").write_bytes((folder / "key.pem").read_bytes())
    assert errors(folder, FEWEST + second)[0].startswith('etc/waypost.toml:8: tls.second_key = "rsa-key.pem": ')


def test_without_tls_there_is_no_certificate(folder: Path) -> None:
    assert look(folder, FEWEST) == Preflight(None, ())


def test_a_data_directory_that_is_missing_is_noted(folder: Path) -> None:
    (folder / "data").rmdir()
    assert [note.replace(str(folder), "etc") for note in look(folder, FEWEST).notes] == [
        "etc/data does not exist yet: the service will begin with an empty one"
    ]


def test_a_private_key_that_others_can_read_is_noted(folder: Path) -> None:
    (folder / "key.pem").chmod(0o644)
    assert f"{folder}/key.pem is a private key that others on this machine can read: chmod 600 {folder}/key.pem" in (
        look(folder, FEWEST + TLS).notes
    )


def test_every_file_that_can_not_be_used_is_named_by_its_line(folder: Path) -> None:
    (folder / "cert.pem").unlink()
    (folder / "secret").unlink()
    assert errors(folder, FEWEST + TLS + ROUTE + ROUTE.replace("*", "a.example").replace("secret", "key.pem/x")) == [
        'etc/waypost.toml:5: tls.certificate = "cert.pem": etc/cert.pem can\'t be read: No such file or directory',
        'etc/waypost.toml:11: route.password_file = "secret": etc/secret can\'t be read: No such file or directory',
        'etc/waypost.toml:16: route.password_file = "key.pem/x": etc/key.pem/x can\'t be read: Not a directory',
    ]


def test_an_expired_certificate_is_noted_since_a_reload_takes_it(folder: Path) -> None:
    notes = look(folder, FEWEST + TLS, NOW + timedelta(days=4000)).notes
    assert "the certificate EXPIRED on 2036-11-22: mail programs refuse it; renew it" in notes


def test_an_empty_password_is_told(folder: Path) -> None:
    (folder / "secret").write_text("\n")
    assert errors(folder, FEWEST + ROUTE) == [
        'etc/waypost.toml:8: route.password_file = "secret": etc/secret has an empty first line; '
        "write the password there"
    ]


def test_a_data_directory_that_is_a_file_and_an_unknown_user_are_told(folder: Path) -> None:
    (folder / "data").rmdir()
    (folder / "data").write_text("")
    assert errors(folder, FEWEST + '[service]\nuser = "wpst-nobody"') == [
        'etc/waypost.toml:3: data = "data": etc/data is not a directory; write the path of one',
        'etc/waypost.toml:5: service.user = "wpst-nobody": there is no such user; make it (useradd --system '
        "wpst-nobody), or write another",
    ]


def test_what_works_but_may_not_be_meant_is_noted(folder: Path) -> None:
    (folder / "secret").chmod(0o644)
    text = FEWEST.replace("mx.", "mail.") + TLS + ROUTE + '[outbound]\nsource_addresses = ["192.0.2.77", "127.0.0.1"]'
    notes = look(folder, text, NOW + timedelta(days=3640)).notes
    assert [note.replace(str(folder), "etc") for note in notes] == [
        "the certificate is not for mail.example.org: mail programs will warn their users",
        "the certificate is self-signed: enough for other servers, but mail programs will warn their users",
        "the certificate expires soon, on 2036-11-22",
        "mail servers that know RSA only get no TLS here: add tls.second_certificate with an RSA key",
        "etc/secret can be read by every user of this machine: chmod 600",
        "outbound.source_addresses is the form of version 0.1.0: a table [[outbound.source]] for each address says "
        "more",
        "192.0.2.77 (outbound.source_addresses) is no address of this machine now",
        "no source (outbound.source_addresses) has an IPv6 address: servers that have no other can't be reached",
    ]


def test_sources_are_looked_at(folder: Path) -> None:
    text = FEWEST + "".join(
        f'[[outbound.source]]\naddress = "{address}"\nwarm = {warm}\n'
        for address, warm in (("127.0.0.1", "true"), ("192.0.2.77", "true"), ("::1", "false"))
    )
    assert [note for note in look(folder, text, NOW).notes if "outbound" in note] == [
        "192.0.2.77 (outbound.source) is no address of this machine now",
        "::1 (outbound.source) is not warm, and sends as much as the others: there is no warm-up yet",
    ]


@pytest.mark.parametrize(("address", "missing"), [("127.0.0.1", 6), ("::1", 4)])
def test_a_family_without_a_source_is_noted(folder: Path, address: str, missing: int) -> None:
    text = FEWEST + f'[[outbound.source]]\naddress = "{address}"\n'
    assert [note for note in look(folder, text, NOW).notes if "outbound" in note] == [
        f"no source (outbound.source) has an IPv{missing} address: servers that have no other can't be reached"
    ]


def test_a_path_that_can_not_be_is_told(folder: Path) -> None:
    name = "x" * 300
    assert errors(folder, FEWEST.replace('"data"', f'"{name}"')) == [
        f"etc/waypost.toml:3: data = \"{name[:59]} ...: etc/{name} can't be reached: File name too long"
    ]
