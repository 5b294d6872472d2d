"""`waypost init` and `waypost check`: from nothing to a host that can be served."""

import asyncio
import json
import os
import pwd
import re
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cli.dialogue import dialogue, root_questions

from waypost.login.passwords import verify_password
from waypost.storage.sqlite import open_storage

NAMES = ("--domain", "example.org", "--hostname", "mx.example.org")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_init_and_check_from_a_shell(tmp_path: Path) -> None:
    waypost = [sys.executable, "-m", "waypost"]
    folder = tmp_path / "etc" / "waypost"
    made = subprocess.run([*waypost, "init", str(folder), *NAMES], capture_output=True, text=True, check=True)
    assert f"waypost account add alice@example.org --config {folder}/waypost.toml" in made.stdout
    config = ["--config", str(folder / "waypost.toml")]
    checked = subprocess.run([*waypost, "check", *config], capture_output=True, text=True, check=True)
    assert checked.stdout.startswith(f"{folder}/waypost.toml: no errors\n")
    (folder / "waypost.toml").write_text("hostname = 5")
    wrong = subprocess.run([*waypost, "check", *config], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert f"{folder}/waypost.toml:1: hostname = 5: not a text; write for example" in wrong.stderr


def test_a_new_host_has_a_private_data_directory_and_key(tmp_path: Path, run: Run) -> None:
    run("init", str(tmp_path / "host"), *NAMES)
    assert mode(tmp_path / "host" / "data") == 0o700
    assert mode(tmp_path / "host" / "tls" / "key.pem") == 0o600
    assert sorted(each.name for each in (tmp_path / "host").iterdir()) == ["data", "tls", "waypost.toml"]


def test_the_certificate_is_good_for_the_host_and_its_domains(tmp_path: Path, run: Run) -> None:
    run("init", str(tmp_path), *NAMES, "--domain", "bücher.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls" / "cert.pem", tmp_path / "tls" / "key.pem")
    client = ssl.create_default_context(cafile=str(tmp_path / "tls" / "cert.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("mx.example.org", "example.org", "xn--bcher-kva.example"):
        ours, theirs = socket.socketpair()
        answering = threading.Thread(
            target=lambda end: server.wrap_socket(end, server_side=True).close(), args=(theirs,)
        )
        answering.start()
        with client.wrap_socket(ours, server_hostname=name) as connection:
            assert connection.version() == "TLSv1.3"
        answering.join()


def test_the_records_to_publish_are_printed(tmp_path: Path, run: Run) -> None:
    output = run("init", str(tmp_path), *NAMES, "--domain", "example.net").output
    lines = [" ".join(line.split()) for line in output.splitlines()]
    for record in (
        "mx.example.org. A 192.0.2.1",
        'mx.example.org. TXT "v=spf1 a -all"',
        "example.org. MX 10 mx.example.org.",
        'example.org. TXT "v=spf1 mx -all"',
        "example.net. MX 10 mx.example.org.",
    ):
        assert record in lines
    assert "PTR" in output and "DKIM" not in output


def test_an_existing_configuration_is_never_overwritten(tmp_path: Path, run: Run) -> None:
    (tmp_path / "waypost.toml").write_text("# mine")
    result = run("init", str(tmp_path), *NAMES, status=1)
    assert result.stderr == (
        f"waypost: {tmp_path}/waypost.toml exists already; --force replaces it, "
        "and without --hostname and --domain it is kept\n"
    )
    assert (tmp_path / "waypost.toml").read_text() == "# mine"
    assert not (tmp_path / "data").exists()


def test_force_replaces_the_configuration_and_keeps_mail_and_a_certificate_that_fits(tmp_path: Path, run: Run) -> None:
    run("init", str(tmp_path), *NAMES)
    (tmp_path / "data" / "mail").write_text("precious")
    before = (tmp_path / "tls" / "cert.pem").read_bytes()
    result = run("init", str(tmp_path), "--domain", "example.net", "--hostname", "mx.example.org", "--force")
    assert 'domains = ["example.net"]' in (tmp_path / "waypost.toml").read_text()
    assert (tmp_path / "data" / "mail").read_text() == "precious"
    assert (tmp_path / "tls" / "cert.pem").read_bytes() == before and "Kept:" in result.output


def test_force_with_another_host_name_makes_certificates_for_it_and_sets_the_old_ones_aside(
    tmp_path: Path, run: Run
) -> None:
    run("init", str(tmp_path), *NAMES)
    before = {file: (tmp_path / "tls" / file).read_bytes() for file in ("cert.pem", "key.pem", "rsa-key.pem")}
    result = run("init", str(tmp_path), "--domain", "example.net", "--hostname", "mx.example.net", "--force")
    assert "the one for another host is kept as cert.pem.old" in result.output
    for file, octets in before.items():
        assert (tmp_path / "tls" / f"{file}.old").read_bytes() == octets
    found = json.loads(run("check", "--json", "--config", str(tmp_path / "waypost.toml")).stdout)
    assert found["certificate"]["names"] == ["mx.example.net", "example.net"]
    assert mode(tmp_path / "tls" / "key.pem") == 0o600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--domain", "a_b.example", "--hostname", "mx.example.org"], "not a domain name"),
        (["--domain", "example.org", "--hostname", "mx"], "not a full host name"),
        (["--domain", "example.org"], "Missing option '--hostname'"),
    ],
)
def test_wrong_names_are_wrong_usage_and_make_nothing(
    arguments: list[str], words: str, tmp_path: Path, run: Run
) -> None:
    assert words in run("init", str(tmp_path / "host"), *arguments, status=2).output
    assert not (tmp_path / "host").exists()


def test_a_place_that_can_not_be_written_is_named(run: Run) -> None:
    why = "/proc/waypost: No such file or directory" if os.geteuid() == 0 else "/proc: .* may not write there; .*"
    assert re.fullmatch(f"waypost: {why}\n", run("init", "/proc/waypost", *NAMES, status=1).stderr)


# -- the steps behind the files --------------------------------------------------------------------------------


def folder_of(path: Path) -> dict[str, int]:
    return {str(each.relative_to(path)): each.stat().st_uid for each in path.rglob("*")}


def test_without_a_terminal_only_what_the_options_ask_for_is_done(tmp_path: Path, run: Run) -> None:
    result = run("init", str(tmp_path / "host"), *NAMES)
    assert {path.split("/")[0] for path in folder_of(tmp_path / "host")} == {"data", "tls", "waypost.toml"}
    assert list((tmp_path / "host/data").iterdir()) == [], "no account, so no database"
    assert {*folder_of(tmp_path / "host").values()} == {os.geteuid()}
    assert "DNS and addresses" not in result.output, "DNS is not asked"


def test_the_generated_password_of_the_first_account_is_in_a_file_for_its_owner_alone(tmp_path: Path, run: Run) -> None:
    result = run("init", str(tmp_path), *NAMES, "--account", "Alice@example.org")
    path = tmp_path / "password-of-alice@example.org"
    password = path.read_text().strip()
    assert mode(path) == 0o600 and len(password) == 23
    assert password not in result.output and password not in result.stderr
    assert "The user name is alice@example.org" in result.output
    config = ["--config", str(tmp_path / "waypost.toml")]
    [account] = json.loads(run("account", "list", "--json", *config).stdout)
    assert account["address"] == "alice@example.org"
    assert checked_password(tmp_path / "data", "alice@example.org", password)


def test_a_password_from_standard_input_is_not_written_anywhere(tmp_path: Path) -> None:
    arguments = ["init", str(tmp_path), *NAMES, "--account", "alice@example.org", "--password-stdin"]
    done = subprocess.run(
        [sys.executable, "-m", "waypost", *arguments], input="a white rabbit\n", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("password-of-*"))
    assert checked_password(tmp_path / "data", "alice@example.org", "a white rabbit")


def test_an_account_that_exists_keeps_its_password(tmp_path: Path, run: Run) -> None:
    run("init", str(tmp_path), *NAMES, "--account", "alice@example.org")
    (tmp_path / "password-of-alice@example.org").rename(tmp_path / "kept")
    result = run("init", str(tmp_path), *NAMES, "--force", "--account", "alice@example.org")
    assert "Kept:    the account alice@example.org" in result.output
    assert not (tmp_path / "password-of-alice@example.org").exists()
    assert checked_password(tmp_path / "data", "alice@example.org", (tmp_path / "kept").read_text().strip())


def test_an_account_of_another_domain_is_refused_in_one_line(tmp_path: Path, run: Run) -> None:
    result = run("init", str(tmp_path), *NAMES, "--account", "alice@else.example", status=1)
    assert "else.example is not hosted here" in result.stderr
    assert not list(tmp_path.glob("password-of-*")), "no password of an account that is not there"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@needs_root
def test_the_unit_starts_this_program_with_this_configuration_and_may_write_this_data(tmp_path: Path, run: Run) -> None:
    system, host = tmp_path / "system", tmp_path / "a host"
    (system / "etc/systemd/system").mkdir(parents=True)
    run("init", str(host), *NAMES, "--unit", "--system-root", str(system))
    unit = (system / "etc/systemd/system/waypost.service").read_text()
    config = f'"{host}/waypost.toml"'
    assert f" serve --config {config}\n" in unit and f" reload --config {config}\n" in unit
    assert f'ReadWritePaths="-{host}/data"\n' in unit
    assert "/opt/waypost" not in unit
    before = folder_of(system)
    run("init", str(host), *NAMES, "--force", "--unit", "--system-root", str(system))
    assert folder_of(system) == before


@needs_root
def test_a_unit_that_differs_stays_unless_it_may_be_replaced(tmp_path: Path, run: Run) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    unit = tmp_path / "etc/systemd/system/waypost.service"
    unit.write_text("mine")
    result = run("init", str(tmp_path / "host"), *NAMES, "--unit", "--system-root", str(tmp_path), status=1)
    assert "exists and differs; --force replaces it" in result.stderr and unit.read_text() == "mine"


@needs_root
def test_the_data_directory_is_given_to_the_user_of_the_workers(tmp_path: Path, run: Run) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    result = run("init", str(tmp_path / "host"), *NAMES, "--user", "nobody", "--account", "alice@example.org")
    nobody = pwd.getpwnam("nobody").pw_uid
    assert f"Given:   {tmp_path}/host/data to nobody" in result.output
    assert {*folder_of(tmp_path / "host/data").values()} == {nobody}, "what the account made, too"
    assert (tmp_path / "host/data").stat().st_uid == nobody
    assert (tmp_path / "host/waypost.toml").stat().st_uid == 0


def test_starting_without_systemd_is_refused_with_what_is_missing(tmp_path: Path, run: Run) -> None:
    result = run("init", str(tmp_path / "host"), *NAMES, "--start", "--system-root", str(tmp_path), status=1)
    assert "--start: it needs root, a running systemd and the unit" in result.stderr


def test_on_a_terminal_it_asks_for_everything_and_shows_the_password_once(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    host = tmp_path / "host"
    status, shown = dialogue(
        ["init", "--system-root", str(tmp_path)],
        [
            (b"Directory for configuration and data [/etc/waypost]: ", str(host).encode()),
            (b"Full name of this host", b"not a name!"),
            (b"Full name of this host", b"mx.example.org"),
            (b"Domain whose mailboxes are here [example.org]: ", b""),
            *root_questions((b"the data directory", b"n"), (b"Install the systemd unit", b"y")),
            (b"Address of the first account ('-' for none) [postmaster@example.org]: ", b"alice@example.org"),
            (b"Its password (empty: generate one): ", b""),
        ],
    )
    assert status == 0, shown
    found = re.search(r"Its password, shown this once: (\S+)", shown)
    assert found is not None and shown.count(found[1]) == 1
    assert checked_password(host / "data", "alice@example.org", found[1])
    assert "DNS and addresses:" in shown and "Settings for a mail program:" in shown
    assert not list(host.glob("password-of-*"))


def test_run_again_it_changes_nothing_that_exists_without_asking(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    host = tmp_path / "host"
    answers = [
        *root_questions((b"the data directory", b"n"), (b"Install the systemd unit", b"y")),
        (b"Address of the first account", b"alice@example.org"),
        (b"Its password", b"a white rabbit"),
        (b"The same again", b"a white rabbit"),
    ]
    arguments = ["init", str(host), *NAMES, "--system-root", str(tmp_path)]
    status, shown = dialogue(arguments, answers)
    assert status == 0, shown
    before = {path: path.read_bytes() for path in (host / "tls").iterdir()} | {
        host / "waypost.toml": (host / "waypost.toml").read_bytes()
    }
    again = [
        (b"exists already. Replace it? [y/N]: ", b""),
        *root_questions((b"the data directory", b"n")),
        (b"Address of the first account", b"alice@example.org"),
    ]
    status, shown = dialogue(arguments, again)
    assert status == 0 and "Kept:    the account alice@example.org" in shown
    assert {path: path.read_bytes() for path in before} == before
    assert checked_password(host / "data", "alice@example.org", "a white rabbit")


def checked_password(data: Path, address: str, password: str) -> bool:
    """True when an account has this password."""

    async def look() -> bool:
        opened = await open_storage(
            data, now=lambda: 0, worker=1023, publish=lambda notice: None, memory_per_message=1 << 20
        )
        try:
            account = await opened.storage.directory.account(address)
            assert account is not None
            return verify_password(account.credentials.argon2, password)
        finally:
            await opened.close()

    return asyncio.run(look())


def test_check_sums_up_what_the_configuration_says(config: Path, run: Run) -> None:
    output = run("check").output
    assert "  hostname     mx.example.org\n  domains      example.org, example.net\n" in output
    assert "smtp 0.0.0.0:25, submission 0.0.0.0:587" in output
    assert "note: the certificate is self-signed" in output


def test_check_prints_the_same_as_json(config: Path, run: Run) -> None:
    found = json.loads(run("check", "--json").stdout)
    assert found["ok"] is True and found["domains"] == ["example.org", "example.net"]
    assert found["listeners"][0] == {"protocol": "smtp", "address": "0.0.0.0:25"}
    assert found["certificate"]["names"] == ["mx.example.org", "example.org", "example.net"]
    assert found["data"] == str(config.parent / "data")


def test_check_prints_every_error_and_fails(config: Path, run: Run) -> None:
    config.write_text(
        config.read_text().replace('protocol = "smtp"', 'protocol = "smpt"') + '\n[queue]\nretri = "1m"\n'
    )
    result = run("check", status=1)
    first, second = result.stderr.splitlines()
    assert first.startswith(f'{config}:15: listener.protocol = "smpt": not one of the known ones; write')
    assert second.endswith(': queue.retri: no such key; did you mean "retry"?') and result.stdout == ""
    told = json.loads(run("check", "--json", status=1).stdout)
    assert told["ok"] is False
    assert told["errors"][1]["key"] == "queue.retri" and told["errors"][0]["line"] == 15


def test_check_looks_into_the_files_that_are_named(config: Path, run: Run) -> None:
    (config.parent / "tls" / "key.pem").write_text("")
    result = run("check", status=1)
    assert ": tls.key = " in result.stderr and "holds no private key" in result.stderr
