"""`waypost fetch`, as a person at a terminal and a script use it, against a real server."""

import errno
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result
from tests.client.servers import ALICE, PASSWORD, Pop3Place, certified, listening, scripted

from waypost.cli.fetch import fetch
from waypost.cli.terminal import _width
from waypost.client import reading
from waypost.client.errors import ClientError
from waypost.client.maildrop import RemoteMaildrop

MESSAGES = [
    b"From: Alice <alice@wonderland.test>\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\nSubject: one\r\n\r\n.first\r\n",
    b"From: =?utf-8?q?H=C3=A4tter?= <h@x.test>\r\nSubject: =?utf-8?q?=1B]0;owned=07=0A_=E2=80=AE?=\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nred: \x1b[31m\r\nbell: \x07\r\ntab:\tend\r\n"
    b"forged\rline\r\n\xc2\x9b2J \xe2\x80\xaebidi\r\n",
    b"Subject: three\r\nDate: nonsense\r\n\r\nbare\nline\rends\0 and \xff\r\n",
]


@pytest.fixture
def box(tmp_path: Path) -> Pop3Place:
    return Pop3Place(list(MESSAGES), certified(tmp_path, "127.0.0.1"), implicit=True)


def run_fetch(box: Pop3Place, *arguments: str, text: str = "") -> Result:
    assert box.certificate is not None
    with listening(box.serve) as port:
        return CliRunner().invoke(
            fetch,
            [f"pop3s://{quote(ALICE, safe='')}@127.0.0.1:{port}", "--ca", str(box.certificate.file), *arguments],
            input=text,
            env={"WAYPOST_PASSWORD": PASSWORD, "TZ": "UTC"},
        )


def test_the_list_is_a_table(box: Pop3Place) -> None:
    result = run_fetch(box)
    assert result.exit_code == 0, result.output
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["number", "date", "from", "subject", "size"]
    assert rows[0].split() == [
        "1",
        "2026-11-24",
        "12:00",
        "Alice",
        "<alice@wonderland.test>",
        "one",
        str(len(MESSAGES[0])),
    ]
    assert "Hätter <h@x.test>" in rows[1] and "\\x1b]0;owned\\x07\\n \\u202e" in rows[1]
    assert len(rows) == 3


def test_the_list_is_json_for_scripts(box: Pop3Place) -> None:
    listed = json.loads(run_fetch(box, "list", "--json").stdout)
    assert listed[0] == {
        "number": 1,
        "id": "7.11",
        "date": "2026-11-24T12:00:00+00:00",
        "from": "Alice <alice@wonderland.test>",
        "subject": "one",
        "size": len(MESSAGES[0]),
    }
    assert listed[2]["date"] is None


def test_a_date_that_no_local_time_can_show_is_left_out_of_the_list(box: Pop3Place) -> None:
    box.messages[0] = b"Subject: late\r\nDate: 31 Dec 9999 23:59:59 -2359\r\n\r\n"
    result = run_fetch(box)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split() == ["1", "late", str(len(box.messages[0]))]


def test_an_empty_mailbox_is_said_to_be_empty(box: Pop3Place) -> None:
    box.messages.clear()
    assert run_fetch(box, "list").stdout == "The mailbox is empty.\n"
    assert json.loads(run_fetch(box, "list", "--json").stdout) == []
    assert run_fetch(box, "show", "1").exit_code == 1
    assert run_fetch(box, "delete", "all", "--yes").exit_code == 1


def test_a_message_is_shown_and_steers_no_terminal(box: Pop3Place) -> None:
    result = run_fetch(box, "show", "2")
    assert result.exit_code == 0
    shown = result.stdout
    assert shown.startswith("From: Hätter <h@x.test>\nSubject: \\x1b]0;owned\\x07\\n \\u202e\n\nred: \\x1b[31m\n")
    assert "tab:    end\n" in shown and "forged\\rline\n" in shown and "\\x9b2J \\u202ebidi" in shown
    assert not any(character in shown for character in "\x1b\x07\r\x9b\u202e")
    as_json = json.loads(run_fetch(box, "show", "2", "--json").stdout)
    assert as_json["from"] == "Hätter <h@x.test>" and as_json["attachments"] == []


def test_of_a_very_large_message_no_more_is_kept_than_is_shown(box: Pop3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    box.messages[0] = b"Subject: large\r\n\r\n" + b"x" * 1000 + b"\r\n"
    read, kept = reading.read_message, list[bytes]()

    def look(content: bytes) -> reading.Readable:
        kept.append(content)
        return read(content)

    monkeypatch.setattr(reading, "MOST_OCTETS", 100)
    monkeypatch.setattr(reading, "read_message", look)
    result = run_fetch(box, "show", "1")
    assert result.exit_code == 0 and "(the message is longer than 100 octets)" in result.stdout
    assert kept == [box.messages[0][:101]]


def test_messages_are_saved_exactly_as_they_are(box: Pop3Place, tmp_path: Path) -> None:
    target = tmp_path / "letter.eml"
    assert run_fetch(box, "save", "3", str(target)).stdout == f"3: {target}\n"
    assert target.read_bytes() == MESSAGES[2]
    again = run_fetch(box, "save", "3", str(target))
    assert again.exit_code == 1 and "is not changed" in again.stderr
    assert run_fetch(box, "save", "2", "-").stdout_bytes == MESSAGES[1]


def test_all_messages_are_saved_into_a_folder_once(box: Pop3Place, tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    assert run_fetch(box, "save", "all", str(folder)).exit_code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"7.{11 + number}.eml": message for number, message in enumerate(MESSAGES)
    }
    box.messages.append(b"Subject: four\r\n\r\n")
    result = run_fetch(box, "save", "2-4", str(folder))
    assert result.exit_code == 0 and result.stdout.count("is there already") == 2
    assert (folder / "7.14.eml").exists() and box.removed == []


def test_an_id_that_is_too_long_for_the_name_of_a_file_is_known_again(tmp_path: Path) -> None:
    capabilities, ids = b"+OK\r\nUIDL\r\n.\r\n", b"u" * 299
    opening = [b"+OK hi\r\n", capabilities, b"+OK\r\n", b"+OK\r\n", capabilities, b"+OK\r\n1 3\r\n2 3\r\n.\r\n"]
    opening.append(b"+OK\r\n1 %b1\r\n2 %b2\r\n.\r\n" % (ids, ids))

    def save_all(*turns: bytes) -> str:
        with listening(scripted(*opening, *turns, b"+OK bye\r\n")) as port:
            arguments = [f"pop3://bob@127.0.0.1:{port}", "save", "all", str(tmp_path), "--insecure"]
            result = CliRunner().invoke(fetch, arguments, env={"WAYPOST_PASSWORD": PASSWORD})
        assert result.exit_code == 0, result.output
        return result.stdout

    assert save_all(b"+OK\r\na\r\n.\r\n", b"+OK\r\nb\r\n.\r\n").count("is there already") == 0
    assert sorted(path.read_bytes() for path in tmp_path.glob("*.eml")) == [b"a\r\n", b"b\r\n"]
    assert save_all().count("is there already") == 2


def while_saving(monkeypatch: pytest.MonkeyPatch, happen: Callable[[int], object]) -> None:
    """Let something happen when the content of a message is written, and its file is not finished."""
    save = RemoteMaildrop.save

    def saved(self: RemoteMaildrop, number: int, file: BinaryIO) -> None:
        save(self, number, file)
        file.flush()
        happen(number)

    monkeypatch.setattr(RemoteMaildrop, "save", saved)


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file system without hard links."""

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)


def test_a_file_gets_its_name_when_it_is_whole(box: Pop3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = tmp_path / "mail", list[list[str]]()

    def look(number: int) -> None:
        seen.append(sorted(path.suffix for path in folder.iterdir()))
        if number == 2:
            raise ClientError("the connection was lost")

    while_saving(monkeypatch, look)
    result = run_fetch(box, "save", "all", str(folder))
    assert result.exit_code == 1 and "the connection was lost" in result.stderr
    assert seen == [[".part"], [".eml", ".part"]]
    assert [path.name for path in folder.iterdir()] == ["7.11.eml"], "nothing is left of the second"


def test_what_is_left_of_a_process_that_was_killed_does_not_count_as_saved(
    box: Pop3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(number: int) -> None:
        raise SystemExit(9)

    folder = tmp_path / "mail"
    with monkeypatch.context() as killed:
        killed.setattr(Path, "unlink", lambda path, missing_ok=False: None)  # nobody is there who would do it
        while_saving(killed, die)
        assert run_fetch(box, "save", "1", f"{folder}/").exit_code == 9
    assert len(list(folder.iterdir())) == 1
    assert run_fetch(box, "save", "1", f"{folder}/").stdout == f"1: {folder / '7.11.eml'}\n"
    assert (folder / "7.11.eml").read_bytes() == MESSAGES[0]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_comes_up_meanwhile_stays_as_it_is(
    links: bool, box: Pop3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        without_links(monkeypatch)
    folder = tmp_path / "mail"
    folder.mkdir()
    letter = folder / "letter.eml"
    while_saving(monkeypatch, lambda number: letter.write_text("another's"))
    result = run_fetch(box, "save", "1", str(letter))
    assert (result.exit_code, result.stdout) == (1, "") and "is not changed" in result.stderr
    assert list(folder.iterdir()) == [letter] and letter.read_text() == "another's"


def test_where_there_are_no_hard_links_files_are_saved_too(
    box: Pop3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch)
    folder = tmp_path / "mail"
    assert run_fetch(box, "save", "all", str(folder)).exit_code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"7.{11 + number}.eml": message for number, message in enumerate(MESSAGES)
    }
    assert run_fetch(box, "save", "all", str(folder)).stdout.count("is there already") == 3


def test_a_script_reads_what_was_saved_and_what_was_there_already(box: Pop3Place, tmp_path: Path) -> None:
    letter, folder = tmp_path / "letter.eml", tmp_path / "mail"
    one = run_fetch(box, "save", "2", str(letter), "--json")
    assert json.loads(one.stdout) == [{"number": 2, "file": str(letter), "saved": True}]
    run_fetch(box, "save", "1", f"{folder}/")
    both = run_fetch(box, "save", "1-2", str(folder), "--json")
    assert json.loads(both.stdout) == [
        {"number": number, "file": str(folder / f"7.{10 + number}.eml"), "saved": number == 2} for number in (1, 2)
    ]


def test_messages_are_deleted_after_a_question(box: Pop3Place) -> None:
    result = run_fetch(box, "delete", "1", "3", text="n\n")
    assert result.exit_code == 1 and "Delete messages 1, 3?" in result.output and box.removed == []
    assert run_fetch(box, "delete", "1", "3", text="y\n").exit_code == 0
    assert box.removed == [0, 2]
    box.removed.clear()
    assert run_fetch(box, "delete", "2", "--yes").stdout == "Deleted 1.\n"
    assert box.removed == [1]
    box.removed.clear()
    assert json.loads(run_fetch(box, "delete", "2", "1", "--yes", "--json").stdout) == {"deleted": [1, 2]}
    assert box.removed == [0, 1]


def test_nothing_is_deleted_when_one_of_them_is_not_there(box: Pop3Place) -> None:
    result = run_fetch(box, "delete", "1", "9", "--yes")
    assert result.exit_code == 1 and "there is no message 9: the mailbox has 3" in result.stderr
    assert box.removed == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show"], "show which message?"),
        (["show", "1", "2"], "show which message?"),
        (["show", "all"], "show which message?"),
        (["show", "0"], "there is no message 0"),
        (["save"], "save what, and where?"),
        (["save", "a", "1"], "save what, and where?"),
        (["save", "1", "a", "b"], "save what, and where?"),
        (["save", "1", "/nonexistent/a.eml"], "/nonexistent/a.eml: No such file"),
        (["save", "1", "a" * 300], ": File name too long"),
        (["save", "1", "-", "--json"], "can't have both the message and --json"),
        (["delete"], "delete which messages?"),
        (["delete", "one"], "'one' is not the number"),
    ],
)
def test_what_is_wrong_with_the_command_is_said(arguments: list[str], words: str, box: Pop3Place) -> None:
    result = run_fetch(box, *arguments)
    assert result.exit_code == 1 and words in result.stderr


def test_plain_text_is_for_loopback_and_only_when_it_is_asked_for(box: Pop3Place) -> None:
    box.certificate, box.implicit, box.mechanisms = None, False, ()

    def serve_old(*arguments: str) -> Result:
        with listening(box.serve) as port:
            url = f"pop3://{quote(ALICE, safe='')}@127.0.0.1:{port}"
            return CliRunner().invoke(fetch, [url, *arguments], env={"WAYPOST_PASSWORD": PASSWORD})

    refused = serve_old()
    assert refused.exit_code == 1 and "must not be sent without" in refused.stderr
    insecure = serve_old("--insecure")
    assert "NOT checked" in insecure.stderr


@pytest.mark.parametrize("host", ["mail..example.org", "x" * 64 + ".example.org"])
def test_a_server_whose_name_can_be_none_is_named(host: str) -> None:
    result = CliRunner().invoke(fetch, [f"pop3s://bob@{host}"], env={"WAYPOST_PASSWORD": PASSWORD})
    assert (result.exit_code, result.stderr) == (1, f"waypost: {host}:995: this is not the name of a host\n")


def test_a_url_without_a_user_is_asked_whose_mailbox() -> None:
    result = CliRunner().invoke(fetch, ["pop3s://mx.wonderland.test"])
    assert result.exit_code == 1 and "whose mailbox?" in result.stderr


# Servers that are not as they should be, and terminals that can't show everything.


def scripted_fetch(turns: list[bytes], *arguments: str) -> Result:
    """Run `fetch` against a server that says this, after the login; the capabilities are those of UIDL and TOP."""
    capabilities = b"+OK\r\nUIDL\r\nTOP\r\n.\r\n"
    opening = [b"+OK hi\r\n", capabilities, b"+OK\r\n", b"+OK\r\n", capabilities]
    with listening(scripted(*opening, *turns, b"+OK bye\r\n")) as port:
        url = f"pop3://bob@127.0.0.1:{port}"
        return CliRunner().invoke(fetch, [url, *arguments, "--insecure"], env={"WAYPOST_PASSWORD": PASSWORD})


THREE = b"+OK\r\n1 3\r\n2 3\r\n3 3\r\n.\r\n"


def saved_in(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.glob("*.eml"))


def test_a_message_that_the_server_refuses_keeps_no_other_from_being_saved(tmp_path: Path) -> None:
    turns = [THREE, b"+OK\r\n1 x\r\n2 y\r\n3 z\r\n.\r\n"]
    turns += [b"+OK\r\na\r\n.\r\n", b"-ERR [SYS/PERM] damaged\r\n", b"+OK\r\nc\r\n.\r\n"]
    result = scripted_fetch(turns, "save", "all", str(tmp_path))
    assert saved_in(tmp_path) == [b"a\r\n", b"c\r\n"] and not list(tmp_path.glob("*.part"))
    assert result.exit_code == 1 and "message 2: -ERR [SYS/PERM] damaged" in result.stderr
    again = scripted_fetch([*turns[:2], turns[3]], "save", "all", str(tmp_path), "--json")
    assert [one["saved"] for one in json.loads(again.stdout)] == [False, False, False]
    assert "damaged" in json.loads(again.stdout)[1]["problem"] and again.exit_code == 1
    streamed = scripted_fetch([THREE, *turns[2:]], "save", "all", "-")
    assert (streamed.exit_code, streamed.stdout_bytes) == (1, b"a\r\nc\r\n")


def test_a_message_that_the_server_refuses_keeps_no_other_from_the_list() -> None:
    ids = b"+OK\r\n1 x\r\n2 y\r\n3 z\r\n.\r\n"
    turns = [
        THREE,
        ids,
        b"+OK\r\nSubject: one\r\n\r\n.\r\n",
        b"-ERR damaged\r\n",
        b"+OK\r\nSubject: three\r\n\r\n.\r\n",
    ]
    result = scripted_fetch(turns, "list")
    assert "one" in result.stdout and "three" in result.stdout
    assert result.exit_code == 1 and "message 2: -ERR damaged" in result.stderr


@pytest.mark.parametrize(
    "ids",
    [b"1 x\r\n2 x\r\n3 x\r\n", b"1 \r\n2 \r\n3 \r\n", b"1\r\n2\r\n3\r\n", b"", b"1 a\r\n2 %2e\r\n3 a\r\n", b"1 x\r\n"],
)
def test_messages_with_one_id_or_none_are_all_saved_and_saved_once(ids: bytes, tmp_path: Path) -> None:
    turns = [THREE, b"+OK\r\n" + ids + b".\r\n", *(b"+OK\r\n%c\r\n.\r\n" % letter for letter in b"abc")]
    first = scripted_fetch(turns, "save", "all", str(tmp_path))
    assert first.exit_code == 0, first.output
    assert saved_in(tmp_path) == [b"a\r\n", b"b\r\n", b"c\r\n"]
    if ids.count(b"x") != 1 and b"2e" not in ids:
        assert scripted_fetch(turns, "save", "all", str(tmp_path)).exit_code == 0
        assert saved_in(tmp_path) == [b"a\r\n", b"b\r\n", b"c\r\n"]


def test_an_id_that_a_server_gives_again_loses_no_message(tmp_path: Path) -> None:
    ids = b"+OK\r\n1 x\r\n.\r\n"
    scripted_fetch([b"+OK\r\n1 3\r\n.\r\n", ids, b"+OK\r\na\r\n.\r\n"], "save", "all", str(tmp_path))
    result = scripted_fetch([b"+OK\r\n1 5\r\n.\r\n", ids, b"+OK\r\nbbb\r\n.\r\n"], "save", "all", str(tmp_path))
    assert result.exit_code == 0 and saved_in(tmp_path) == [b"a\r\n", b"bbb\r\n"]
    wrong_size = scripted_fetch([b"+OK\r\n1 99\r\n.\r\n", ids, b"+OK\r\na\r\n.\r\n"], "save", "all", str(tmp_path))
    assert "is there already" in wrong_size.stdout and len(saved_in(tmp_path)) == 2


STRANGE = (
    "From: \u0410\u043d\u043d\u0430 <a@x.test>\r\nSubject: caf\u00e9 \u4e2d\u6587 \U0001f600 e\u0301\r\n\tfolded\r\n"
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f4bb \u202eevil\u2028 \ufeff\r\n"
    '--b\r\nContent-Type: a/b; name="\u0444.bin"\r\n\r\nx\r\n--b--\r\n'
).encode()


@pytest.mark.parametrize("charset", ["utf-8", "ascii", "latin-1", "koi8-r", "cp1252", "shift_jis"])
@pytest.mark.parametrize(
    "action", [["list"], ["show", "1"], ["list", "--json"], ["show", "1", "--json"], ["save", "1", "x"]]
)
def test_a_letter_that_the_terminal_lacks_is_an_escape(charset: str, action: list[str], tmp_path: Path) -> None:
    box = Pop3Place([STRANGE, b"Subject: \x80\xff\r\n\r\n\xff\r\n"], certified(tmp_path, "127.0.0.1"), implicit=True)
    assert box.certificate is not None
    with listening(box.serve) as port:
        url = f"pop3s://{quote(ALICE, safe='')}@127.0.0.1:{port}"
        environment = os.environ | {"WAYPOST_PASSWORD": PASSWORD, "PYTHONIOENCODING": charset, "TZ": "UTC"}
        done = subprocess.run(
            [sys.executable, "-m", "waypost", "fetch", url, *action, "--ca", str(box.certificate.file)],
            capture_output=True,
            env=environment,
            cwd=tmp_path,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    shown = done.stdout.decode(charset)
    assert "\u202e" not in shown and "\u2028" not in shown and "\\t" not in shown
    if "--json" not in action and action[0] != "save":
        letter = "\u0410\u043d\u043d\u0430"
        seen = (
            letter
            if charset in ("utf-8", "koi8-r", "shift_jis")
            else letter.encode("ascii", "backslashreplace").decode()
        )
        assert f"{seen} <a@x.test>" in shown and "folded" in shown
    if action == ["show", "1"] and charset == "utf-8":
        assert "\u0645\u06cc\u200c\u062e" in shown and "\u200d\U0001f4bb" in shown and "\\ufeff" in shown


def on_terminal(command: list[str], columns: int, environment: dict[str, str]) -> str:
    """Run a command on a terminal of that width; return what it showed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # its other end is closed
                break
            if not data:
                break
            shown += data
        assert process.wait(60) == 0, shown
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("columns", [80, 60, 200])
def test_no_line_of_the_list_is_wider_than_the_terminal(columns: int, tmp_path: Path) -> None:
    subject = b"Subject: " + "\u4e2d\u6587 wide ".encode() * 20
    messages = [b"From: somebody with a long name <somebody@somewhere.example>\r\n" + subject + b"\r\n\r\n", *MESSAGES]
    box = Pop3Place(messages, certified(tmp_path, "127.0.0.1"), implicit=True)
    assert box.certificate is not None
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with listening(box.serve) as port:
        url = f"pop3s://{quote(ALICE, safe='')}@127.0.0.1:{port}"
        command = [sys.executable, "-m", "waypost", "fetch", url, "--ca", str(box.certificate.file)]
        shown = on_terminal(command, columns, environment | {"WAYPOST_PASSWORD": PASSWORD, "PYTHONIOENCODING": "utf-8"})
    lines = shown.split("\r\n")
    assert len(lines) == 6 and all(_width(line) <= columns for line in lines)
    assert "somebody" in shown and ("\N{HORIZONTAL ELLIPSIS}" in shown)
