"""`waypost send`, as a person at a terminal and a script use it, against a real server."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result
from tests.client.servers import (
    ALICE,
    PASSWORD,
    TRACE,
    Certificate,
    SmtpPlace,
    listening,
    self_signed,
)

from waypost.cli.send import send
from waypost.protocol.reply import reply

BOB = "bob@builder.test"


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return self_signed(tmp_path, "mx.wonderland.test")


@pytest.fixture
def server(certificate: Certificate) -> SmtpPlace:
    return SmtpPlace(certificate, implicit=True)


@pytest.fixture
def url(server: SmtpPlace) -> Iterator[str]:
    with listening(server.serve) as port:
        yield f"submissions://{quote(ALICE, safe='')}@127.0.0.1:{port}"


def run_send(
    url: str, certificate: Certificate, *arguments: str, text: str | bytes = "", password: str | None = PASSWORD
) -> Result:
    return CliRunner().invoke(
        send,
        ["--ca", str(certificate.file), *arguments],
        input=text,
        env={"WAYPOST_VIA": url, "WAYPOST_PASSWORD": password},
    )


def received(server: SmtpPlace) -> EmailMessage:
    [(_, content)] = server.messages
    return message_from_bytes(content, policy=policy.default)


# -- send -----------------------------------------------------------------------------------------------------


def test_a_message_is_sent_from_arguments(
    url: str, server: SmtpPlace, certificate: Certificate, tmp_path: Path
) -> None:
    (tmp_path / "plan.txt").write_text("brick by brick")
    (tmp_path / "letter.html").write_text("<p>Grüße</p>")
    result = run_send(
        url,
        certificate,
        *["--from", f"Alice <{ALICE}>", "--to", f"Bob <{BOB}>", "--cc", "carol@x.test, dan@x.test"],
        *["--bcc", "eve@x.test", "--subject", "Grüße", "--attach", str(tmp_path / "plan.txt")],
        *["--html", str(tmp_path / "letter.html"), "--header", "X-Tea: five", "Dear Bob"],
    )
    assert (result.exit_code, result.output) == (0, f"sent: {TRACE}\n")
    message = received(server)
    assert message["Subject"] == "Grüße" and message["X-Tea"] == "five" and message["Bcc"] is None
    assert message["To"].addresses[0].display_name == "Bob"
    body = message.get_body(("plain",))
    assert body is not None and body.get_content() == "Dear Bob\r\n"
    assert [part.get_filename() for part in message.iter_attachments()] == ["plan.txt"]
    recipients = [str(recipient.address) for recipient in server.messages[0][0].recipients]
    assert recipients == [BOB, "carol@x.test", "dan@x.test", "eve@x.test"]


def test_the_text_comes_from_standard_input_and_the_sender_from_the_url(
    url: str, server: SmtpPlace, certificate: Certificate
) -> None:
    result = run_send(url, certificate, "--to", BOB, "--json", text="Grüße\n.\n")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"trace": TRACE, "reply": f"250 2.0.0 Accepted as {TRACE}", "refused": []}
    message = received(server)
    assert message["From"] == ALICE and message.get_content() == "Grüße\r\n.\r\n"


def test_the_login_is_the_senders_where_the_url_names_nobody(
    url: str, server: SmtpPlace, certificate: Certificate
) -> None:
    nobody = url.replace(quote(ALICE, safe="") + "@", "")
    assert run_send(nobody, certificate, "--from", f"Alice <{ALICE}>", "--to", BOB, "hi").exit_code == 0
    result = run_send(nobody, certificate, "--to", BOB, "hi")
    assert result.exit_code == 1 and "no sender: use --from ADDRESS" in result.stderr


def test_another_servers_reply_is_shown_as_it_is(url: str, server: SmtpPlace, certificate: Certificate) -> None:
    server.final = reply(250, "2.0.0", "queued as \\x1b[2J 4711")
    result = run_send(url, certificate, "--to", BOB, "--json", "hi")
    assert json.loads(result.stdout)["trace"] is None
    assert run_send(url, certificate, "--to", BOB, "hi").stdout == "sent: 250 2.0.0 queued as \\x1b[2J 4711\n"


def test_every_refusal_names_who_it_is_about(url: str, server: SmtpPlace, certificate: Certificate) -> None:
    server.refuse["nobody@builder.test"] = reply(550, "5.1.1", "Nobody of that name")
    result = run_send(url, certificate, "--to", f"nobody@builder.test, {BOB}", "hi")
    assert result.exit_code == 1
    assert result.stdout == f"sent: {TRACE}\n"
    assert result.stderr == "waypost: nobody@builder.test: 550 5.1.1 Nobody of that name\n"
    result = run_send(url, certificate, "--to", "nobody@builder.test", "--json", "hi")
    assert result.exit_code == 1 and "was sent to nobody" in result.stderr
    assert json.loads(result.stdout)["refused"][0]["recipient"] == "nobody@builder.test"


def test_a_wrong_password_is_told_in_the_servers_words(url: str, certificate: Certificate) -> None:
    result = run_send(url, certificate, "--to", BOB, "hi", password="wrong")
    assert result.exit_code == 1 and result.stdout == ""
    assert f"login as {ALICE}: 535 5.7.8 Wrong name or password" in result.stderr


def test_the_password_may_stand_in_a_file(url: str, certificate: Certificate, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\nmore\n")
    assert (
        run_send(url, certificate, "--to", BOB, "--password-file", str(secret), "hi", password="wrong").exit_code == 0
    )
    for content, words in ((b"", "first line is empty"), (b"\xff\n", "not text in UTF-8")):
        secret.write_bytes(content)
        result = run_send(url, certificate, "--to", BOB, "--password-file", str(secret), "hi")
        assert result.exit_code == 1 and words in result.stderr
    result = run_send(url, certificate, "--to", BOB, "--password-file", str(tmp_path / "none"), "hi")
    assert result.exit_code == 1 and "No such file" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hi"], "the message has no recipient"),
        (["--to", "nobody", "hi"], "'nobody' is not an address"),
        (["--to", BOB, "--attach", "/nonexistent/a.txt", "hi"], "/nonexistent/a.txt: No such file"),
        (["--to", BOB, "--html", "/nonexistent/a.html", "hi"], "/nonexistent/a.html: No such file"),
        (["--to", BOB, "--header", "Bcc: x", "hi"], "use --bcc"),
        (["--to", BOB, "--subject", "a\nBcc: eve@x.test", "hi"], "line break or a NUL"),
        (["--to", BOB, "--via", "submissions://a:secret@h", "hi"], "set $WAYPOST_PASSWORD"),
    ],
)
def test_what_is_wrong_with_the_message_is_said_before_anybody_is_asked(
    arguments: list[str], words: str, url: str, server: SmtpPlace, certificate: Certificate
) -> None:
    result = run_send(url, certificate, *arguments)
    assert result.exit_code == 1 and words in result.stderr and result.stderr.count("\n") == 1
    assert server.logins == []


def test_without_a_server_it_says_how_to_name_one(certificate: Certificate) -> None:
    result = CliRunner().invoke(send, ["--to", BOB, "hi"], env={"WAYPOST_VIA": None})
    assert result.exit_code == 1 and "use --via submissions://" in result.stderr


@pytest.mark.parametrize("host", ["mail..example.org", "x" * 64 + ".example.org"])
def test_a_server_whose_name_can_be_none_is_named(host: str, certificate: Certificate) -> None:
    result = run_send(f"submissions://alice@{host}", certificate, "--from", ALICE, "--to", BOB, "hi")
    assert (result.exit_code, result.stderr) == (1, f"waypost: {host}:465: this is not the name of a host\n")


def test_standard_input_must_be_text(url: str, certificate: Certificate) -> None:
    result = run_send(url, certificate, "--to", BOB, text=b"\xff\xfe")
    assert result.exit_code == 1 and "not in UTF-8" in result.stderr


def test_insecure_says_loudly_what_it_does(url: str, server: SmtpPlace) -> None:
    arguments = ["--to", BOB, "--via", url, "--insecure", "hi"]
    result = CliRunner().invoke(send, arguments, env={"WAYPOST_PASSWORD": PASSWORD})
    assert result.exit_code == 0
    assert "NOT checked" in result.stderr and "password" in result.stderr


# -- at a terminal --------------------------------------------------------------------------------------------

_AT_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from waypost.cli.send import send
send(prog_name="waypost send")
"""


def at_terminal(
    arguments: list[str], editor: str, tmp_path: Path, *, typed: str = "", password: str | None = PASSWORD
) -> tuple[int, str]:
    """Run `send` at a terminal of its own; `editor` is Python that changes `text`. Returns status and output."""
    script = tmp_path / "editor"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\npath = pathlib.Path(sys.argv[-1])\n"
        f"text = path.read_text()\n{editor}\npath.write_text(text)\n"
        "import os\nos.utime(path, (path.stat().st_atime, path.stat().st_mtime + 5))\n"
    )
    script.chmod(0o755)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("WAYPOST_") and key != "VISUAL"
    }
    environment |= {"EDITOR": str(script), "TMPDIR": str(tmp_path)}
    if password is not None:
        environment["WAYPOST_PASSWORD"] = password
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _AT_TERMINAL, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    output = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the last process at the terminal has ended
            break
        output += piece
        if typed and b"Password" in output:
            os.write(master, typed.encode())
            typed = ""
    os.close(master)
    return process.wait(30), output.decode()


def test_at_a_terminal_the_editor_opens_on_a_template(
    url: str, server: SmtpPlace, certificate: Certificate, tmp_path: Path
) -> None:
    editor = 'text = text.replace("Cc: ", "Cc: carol@x.test") + "Dear Bob\\n\\nbye\\n"'
    arguments = ["--via", url, "--ca", str(certificate.file), "--to", f"Bob <{BOB}>", "--subject", "Tea"]
    status, output = at_terminal([*arguments, "--header", "X-Tea: five"], editor, tmp_path)
    assert (status, output) == (0, f"sent: {TRACE}\r\n")
    message = received(server)
    assert (message["From"], message["To"], message["Cc"]) == (ALICE, f"Bob <{BOB}>", "carol@x.test")
    assert (message["Subject"], message["X-Tea"]) == ("Tea", "five")
    assert message.get_content().strip() == "Dear Bob\r\n\r\nbye"


def test_the_password_is_asked_for_and_not_shown(
    url: str, server: SmtpPlace, certificate: Certificate, tmp_path: Path
) -> None:
    arguments = ["--via", url, "--ca", str(certificate.file), "--to", BOB, "hi"]
    status, output = at_terminal(arguments, "", tmp_path, typed=PASSWORD + "\n", password=None)
    assert status == 0 and f"Password of {ALICE} at 127.0.0.1: " in output and PASSWORD not in output
    assert len(server.messages) == 1


@pytest.mark.parametrize(
    ("editor", "words"),
    [
        ('text = text.replace("To: ", "To: nobody") + "precious"', "is not an address"),
        ('text = "no field\\n\\nprecious"', "is not a header field"),
        ('text = text.replace("To: ", "To: gone@x.test") + "precious"', "550 5.1.1 Gone"),
    ],
)
def test_what_was_written_is_kept_when_it_can_not_be_sent(
    editor: str, words: str, url: str, server: SmtpPlace, certificate: Certificate, tmp_path: Path
) -> None:
    server.refuse["gone@x.test"] = reply(550, "5.1.1", "Gone")
    status, output = at_terminal(["--via", url, "--ca", str(certificate.file)], editor, tmp_path)
    assert status == 1 and words in output
    [kept] = tmp_path.glob("waypost-unsent-*.eml")
    assert str(kept) in output and "precious" in kept.read_text()


def test_without_a_terminal_there_is_no_prompt(url: str, certificate: Certificate) -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from waypost.cli.send import send; send()", "--via", url, "--to", BOB, "hi"],
        env={key: value for key, value in os.environ.items() if not key.startswith("WAYPOST_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    assert result.returncode == 1
