"""`waypost init` and `waypost check`: from nothing to a host that can be served."""

import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.cli.conftest import Run

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
    assert result.stderr == f"waypost: {tmp_path}/waypost.toml exists already; --force replaces it\n"
    assert (tmp_path / "waypost.toml").read_text() == "# mine"
    assert not (tmp_path / "data").exists()


def test_force_replaces_the_configuration_and_keeps_mail_and_certificate(tmp_path: Path, run: Run) -> None:
    run("init", str(tmp_path), *NAMES)
    (tmp_path / "data" / "mail").write_text("precious")
    before = (tmp_path / "tls" / "cert.pem").read_bytes()
    result = run("init", str(tmp_path), "--domain", "example.net", "--hostname", "mx.example.net", "--force")
    assert 'hostname = "mx.example.net"' in (tmp_path / "waypost.toml").read_text()
    assert (tmp_path / "data" / "mail").read_text() == "precious"
    assert (tmp_path / "tls" / "cert.pem").read_bytes() == before and "Kept:" in result.output


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
    assert (
        run("init", "/proc/waypost", *NAMES, status=1).stderr == "waypost: /proc/waypost: No such file or directory\n"
    )


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
