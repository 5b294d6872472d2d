"""Alice uses the programs that she already has: each sends to her sister's mailbox, and each reads it."""

import asyncio
import poplib
import smtplib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from tests.scenarios.clients import poll, run, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, World

from waypost.lab.host import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

SISTER = "lorina@wonderland.test"
SISTER_PASSWORD = "a book without pictures"
MESSAGE = (
    f"From: Alice <{ALICE}>\r\nTo: {SISTER}\r\nSubject: by the river\r\n"
    "Message-ID: <{tag}@wonderland.test>\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    "\r\nDown the rabbit-hole.\r\n.\r\n..two dots\r\n"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(shared_world: World) -> Host:
    shared_world.zone("wonderland.test", 11)
    shared_world.start_names()
    return await shared_world.host("wonderland.test", 11, {ALICE: ALICE_PASSWORD, SISTER: SISTER_PASSWORD})


def written(folder: Path, tag: str) -> Path:
    path = folder / f"{tag}.eml"
    path.write_bytes(MESSAGE.format(tag=tag).encode())
    return path


async def by_swaks(host: Host, folder: Path) -> None:
    await run(
        *["swaks", "--server", host.address, "--port", "587", "--tls", "--auth", "PLAIN"],
        *["--auth-user", ALICE, "--auth-password", ALICE_PASSWORD, "--from", ALICE, "--to", SISTER],
        *["--data", f"@{written(folder, 'swaks')}"],
    )


async def by_swaks_login_over_tls(host: Host, folder: Path) -> None:
    await run(
        *["swaks", "--server", host.address, "--port", "465", "--tls-on-connect", "--auth", "LOGIN"],
        *["--auth-user", ALICE, "--auth-password", ALICE_PASSWORD, "--from", ALICE, "--to", SISTER],
        *["--data", f"@{written(folder, 'swaks-login')}"],
    )


async def by_curl_smtp(host: Host, folder: Path) -> None:
    await run(
        *["curl", "-sS", "--ssl-reqd", "--cacert", str(host.certificate), f"smtp://{host.hostname}:587"],
        *["--resolve", f"{host.hostname}:587:{host.address}", "--user", f"{ALICE}:{ALICE_PASSWORD}"],
        *["--mail-from", ALICE, "--mail-rcpt", SISTER, "--upload-file", str(written(folder, "curl"))],
    )


async def by_curl_smtps(host: Host, folder: Path) -> None:
    await run(
        *["curl", "-sS", "--cacert", str(host.certificate), f"smtps://{host.hostname}:465"],
        *["--resolve", f"{host.hostname}:465:{host.address}", "--user", f"{ALICE}:{ALICE_PASSWORD}"],
        *["--mail-from", ALICE, "--mail-rcpt", SISTER, "--upload-file", str(written(folder, "curls"))],
    )


async def by_smtplib(host: Host, folder: Path) -> None:
    def send() -> None:
        with smtplib.SMTP(host.address, 587, local_hostname="client.test", timeout=20) as session:
            session.starttls(context=trusting(host))
            session.login(ALICE, ALICE_PASSWORD)
            session.sendmail(ALICE, [SISTER], MESSAGE.format(tag="smtplib").encode())

    await asyncio.to_thread(send)


async def scram_of(program: str) -> str:
    """Return the strongest SCRAM that this msmtp or mpop has. One that can bind the channel says so in the weaker one,
    too, and is refused there, since the stronger one is offered (RFC 5802 section 6)."""
    bound = "scram-sha-256-plus"
    return bound if bound in await run(program, "--version") else "scram-sha-256"


async def by_msmtp(host: Host, folder: Path, auth: str = "on") -> None:
    rc = folder / "msmtprc"
    rc.write_text(
        f"defaults\nauth {auth}\ntls on\ntls_certcheck off\naccount default\n"
        f"host {host.address}\nport 587\n"
        f'from {ALICE}\nuser {ALICE}\npassword "{ALICE_PASSWORD}"\n'
    )
    rc.chmod(0o600)
    await run("msmtp", "-C", str(rc), SISTER, stdin=written(folder, "msmtp").read_bytes())


async def by_msmtp_with_scram(host: Host, folder: Path) -> None:
    await by_msmtp(host, folder, await scram_of("msmtp"))


@pytest.mark.parametrize(
    "send", [by_swaks, by_swaks_login_over_tls, by_curl_smtp, by_curl_smtps, by_smtplib, by_msmtp, by_msmtp_with_scram]
)
async def test_every_client_submits_and_the_octets_arrive_unchanged(
    send: Callable[[Host, Path], Awaitable[None]], host: Host, tmp_path: Path
) -> None:
    await send(host, tmp_path)
    [message] = poll(host, SISTER, SISTER_PASSWORD, delete=True)
    assert b"by the river" in message and message.startswith(b"Return-Path: <alice@wonderland.test>\r\n")
    body = b"\r\n\r\nDown the rabbit-hole.\r\n.\r\n..two dots\r\n"
    assert message.endswith(body + b"\r\n" if "swaks" in send.__name__ else body), "swaks adds an empty line itself"


async def fetched_by_curl_pop3(host: Host, folder: Path) -> bytes:
    return (
        await run(
            *[
                "curl",
                "-sS",
                "--ssl-reqd",
                "--cacert",
                str(host.certificate),
                f"pop3://{host.hostname}:110/1",
            ],
            *["--resolve", f"{host.hostname}:110:{host.address}", "--user", f"{SISTER}:{SISTER_PASSWORD}"],
        )
    ).encode()


async def fetched_by_curl_pop3s(host: Host, folder: Path) -> bytes:
    return (
        await run(
            *["curl", "-sS", "--cacert", str(host.certificate), f"pop3s://{host.hostname}:995/1"],
            *["--resolve", f"{host.hostname}:995:{host.address}", "--user", f"{SISTER}:{SISTER_PASSWORD}"],
        )
    ).encode()


async def fetched_by_poplib_after_stls(host: Host, folder: Path) -> bytes:
    def fetch() -> bytes:
        box = poplib.POP3(host.address, 110, timeout=20)
        box.stls(context=trusting(host))
        box.user(SISTER)
        box.pass_(SISTER_PASSWORD)
        message = b"\r\n".join(box.retr(1)[1])
        box.quit()
        return message

    return await asyncio.to_thread(fetch)


async def fetched_by_mpop(host: Host, folder: Path, auth: str = "on") -> bytes:
    rc, mbox = folder / "mpoprc", folder / "mbox"
    rc.write_text(
        f"defaults\ntls on\ntls_certcheck off\nkeep on\naccount default\nhost {host.address}\nport 995\n"
        f'tls_starttls off\nauth {auth}\nuser {SISTER}\npassword "{SISTER_PASSWORD}"\n'
        f"delivery mbox {mbox}\nuidls_file {folder / 'uidls'}\n"
    )
    rc.chmod(0o600)
    await run("mpop", "-C", str(rc))
    return mbox.read_bytes()


async def fetched_by_mpop_with_scram(host: Host, folder: Path) -> bytes:
    return await fetched_by_mpop(host, folder, await scram_of("mpop"))


async def fetched_by_fetchmail(host: Host, folder: Path) -> bytes:
    rc, out = folder / "fetchmailrc", folder / "fetched"
    rc.write_text(
        f'poll {host.address} protocol pop3 port 995 user "{SISTER}" password "{SISTER_PASSWORD}" ssl\n'
        f'  no sslcertck keep mda "cat >> {out}"\n'
    )
    rc.chmod(0o600)
    await run(
        *["env", f"FETCHMAILHOME={folder}", "fetchmail", "-f", str(rc), "--pidfile", str(folder / "fm.pid")],
        check=False,
    )
    return out.read_bytes()


@pytest.mark.parametrize(
    "fetch",
    [
        fetched_by_curl_pop3,
        fetched_by_curl_pop3s,
        fetched_by_poplib_after_stls,
        fetched_by_mpop,
        fetched_by_mpop_with_scram,
        fetched_by_fetchmail,
    ],
)
async def test_every_client_reads_what_was_delivered(
    fetch: Callable[[Host, Path], Awaitable[bytes]], host: Host, tmp_path: Path
) -> None:
    await by_smtplib(host, tmp_path)
    message = (await fetch(host, tmp_path)).replace(b"\r\n", b"\n")
    assert b"Subject: by the river\n" in message
    assert b"\n\nDown the rabbit-hole.\n.\n..two dots\n" in message + b"\n"
    assert len(poll(host, SISTER, SISTER_PASSWORD, delete=True)) == 1


@pytest.mark.parametrize(
    ("mechanism", "options"),
    [
        ("SCRAM-SHA-256-PLUS", []),  # bound to the channel by tls-exporter (RFC 9266)
        ("SCRAM-SHA-256", ["--no-cb"]),
        ("PLAIN", []),
        ("LOGIN", []),
    ],
)
async def test_gnu_sasl_logs_in_by_every_mechanism(mechanism: str, options: list[str], host: Host) -> None:
    words = await run(*gsasl(host, mechanism, ALICE_PASSWORD), *options)
    assert "235 2.7.0 Welcome" in words and "server trusted" in words


def gsasl(host: Host, mechanism: str, password: str) -> list[str]:
    command = ["gsasl", "--smtp", "--starttls", "--connect", f"{host.address}:587", "--mechanism", mechanism]
    return [*command, "-a", ALICE, "-p", password, "--hostname", host.hostname, "--x509-ca-file", ""]


async def test_gnu_sasl_with_a_wrong_password_is_refused(host: Host) -> None:
    words = await run(*gsasl(host, "SCRAM-SHA-256-PLUS", "wrong"), check=False)
    assert "535 5.7.8 Wrong user name or password" in words
